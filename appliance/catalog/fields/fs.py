"""Fields of the paths that a file operation names."""

from appliance.model.field import Field, FieldType

T = FieldType

ROWS = (
    Field(
        "fs.path.name", T.PATH, "absolute path of the file a successful call is about", "e.path if e.res >= 0 else None"
    ),
    Field("fs.path.nameraw", T.PATH, "the same as the caller gave it", "e.path_raw if e.res >= 0 else None"),
    Field(
        "fs.path.source",
        T.PATH,
        "absolute path of the first of two in a successful call: the old file of a rename, the new link",
        "end_of_two(e, 'source')",
    ),
    Field("fs.path.sourceraw", T.PATH, "the same as the caller gave it", "end_of_two(e, 'source', raw=True)"),
    Field(
        "fs.path.target",
        T.PATH,
        "absolute path of the second: the new name of a renamed file, what a link points to",
        "end_of_two(e, 'target')",
    ),
    Field("fs.path.targetraw", T.PATH, "the same as the caller gave it", "end_of_two(e, 'target', raw=True)"),
    Field(
        "fs.paths",
        T.TEXT,
        "the path an event is about, of whatever kind; `source -> target` where there are two (not in Falco)",
        "paths_text(e)",
    ),
)
