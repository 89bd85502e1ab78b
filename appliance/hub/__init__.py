"""The central hub: collects alerts of many hosts, forwards them to services, shows them on a page.

Another building on the same ground: it imports `model`, `config`, the tables of `catalog` and the parser of `lang` (a
filter is written in Falco's condition language). It knows nothing of kernel, engine or sources.

`tercel hub run` starts three processes over one data directory, each started again when it dies:

    collect   HTTP in -> journal (durable before the answer), heartbeats -> fleet table
    deliver   outputs, each a cursor over the journal
    page      index of the journal, web pages, API

They share nothing but the files below `data_dir`, so a fault or a slow peer of one cannot stop the others.
"""
