"""Message queues by the field's own clients: Kafka, NATS and JetStream, RabbitMQ, MQTT 5, Redis.

Comes in: batches. Goes out: messages that the broker has acknowledged. Never: a message that counts as delivered
because it lies in a client's buffer.

The value is the JSON event; the key, where there is one, is the host, so that a host's alerts stay in order; the id
goes along (header, `Nats-Msg-Id`, `message_id`), so that receivers can tell one that comes twice."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.table import Kind
from appliance.hub.outputs.threads import Threads
from appliance.hub.outputs.words import cut_bytes

_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to meet a broker by TLS."""

    tls: bool = option(False, "Connect by TLS.")
    checkcert: bool = option(True, "Verify the certificate of the service.")
    ca_file: Path | None = option(None, "PEM file with authorities to trust in place of the system's.")
    client_cert: Path | None = option(None, "PEM file with a client certificate and its chain.")
    client_key: Path | None = option(None, "PEM file with its private key.")


def tls_of(options: TlsOptions) -> ssl.SSLContext | None:
    """The context of these options, None without TLS. Raises OSError for a file that is missing or no certificate."""
    if not options.tls:
        return None
    context = ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
    if not options.checkcert:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.client_cert is not None:
        context.load_cert_chain(options.client_cert, options.client_key)
    return context


def done(batch: Sequence[HubAlert]) -> Outcome:
    """All of them are delivered."""
    return Outcome((Verdict.DONE,) * len(batch))


async def in_order(calls: Sequence[Coroutine[Any, Any, Any]]) -> None:
    """Begin calls in their order, and wait for all; the first error ends the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- Kafka


@dataclass(frozen=True, slots=True)
class KafkaOptions(TlsOptions):
    """Which brokers and topic."""

    hostport: str = option(doc="Brokers, with commas between them.", example="kafka1.example.org:9092")
    topic: str = option("falco", "Topic.")
    compression: str = option("none", "Compression of batches.", choices=("none", "gzip", "snappy", "lz4", "zstd"))
    requiredacks: str = option("all", "Which replicas must have it.", choices=("all", "one"))
    sasl: str = option("", "SASL mechanism; empty: none.", choices=("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))
    username: str = option("", "User of SASL.")
    password: Secret = option(Secret(""), "Password of SASL.")
    clientid: str = option("tercel", "Name of this client in the broker's log.")


class KafkaClient(Client):
    """An idempotent producer: a retry of the client library makes no second message, and order holds for each key."""

    def __init__(self, options: KafkaOptions) -> None:
        import confluent_kafka

        self._kafka = confluent_kafka
        self._options = options
        self._producer: Any = None
        self._threads = Threads()

    def _settings(self) -> dict[str, Any]:
        options = self._options
        made: dict[str, Any] = {
            "bootstrap.servers": options.hostport,
            "client.id": options.clientid,
            "linger.ms": 5,
            "compression.type": options.compression,
            "acks": "all" if options.requiredacks == "all" else "1",
            "enable.idempotence": options.requiredacks == "all",
            "message.max.bytes": 10_000_000,
            "message.timeout.ms": 20_000,
            "socket.timeout.ms": 10_000,
            "log_level": 0,
        }
        protocol = ("SASL_" if options.sasl else "") + ("SSL" if options.tls else "PLAINTEXT")
        made["security.protocol"] = protocol
        if options.sasl:
            made |= {
                "sasl.mechanism": options.sasl,
                "sasl.username": options.username,
                "sasl.password": str(options.password),
            }
        if options.tls:
            made["enable.ssl.certificate.verification"] = options.checkcert
            files = (("ca", options.ca_file), ("certificate", options.client_cert), ("key", options.client_key))
            made |= {f"ssl.{name}.location": str(path) for name, path in files if path}
        return made

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Produce them, and wait until the brokers have acknowledged each."""
        return await self._threads.run(self._send, batch)

    def _send(self, batch: Sequence[HubAlert]) -> Outcome:
        if self._producer is None:
            self._producer = self._kafka.Producer(self._settings(), error_cb=lambda error: None)
        verdicts = [Verdict.AGAIN] * len(batch)
        reasons: list[str] = []

        def told(at: int) -> Any:
            def call(error: Any, message: Any) -> None:
                verdicts[at] = _kafka_verdict(self._kafka, error)
                if error is not None:
                    reasons.append(str(error.str()))

            return call

        for at, alert in enumerate(batch):
            try:
                self._producer.produce(
                    self._options.topic,
                    value=to_bytes(event(alert)),
                    key=(alert.hostname or alert.id).encode(errors="replace"),
                    headers=[("id", alert.id.encode(errors="replace")), ("rule", alert.rule.encode(errors="replace"))],
                    timestamp=max(1, alert.ts_ns // 1_000_000),
                    on_delivery=told(at),
                )
            except self._kafka.KafkaException as error:
                verdicts[at] = _kafka_verdict(self._kafka, error.args[0])
                reasons.append(str(error.args[0].str()))
            except BufferError:
                reasons.append("the producer's queue is full")
                break
        self._producer.flush(25.0)
        if any(v is Verdict.AGAIN for v in verdicts):  # what is left in its queue would come beside the retry
            self._producer.purge()
            self._producer.flush(1.0)
            self._producer = None
        return Outcome(
            tuple(verdicts), reasons[0] if reasons else "not acknowledged in time" if Verdict.AGAIN in verdicts else ""
        )

    async def close(self) -> None:
        """Nothing of ours waits in the producer."""
        self._producer = None
        self._threads.close()


def _kafka_verdict(kafka: Any, error: Any) -> Verdict:
    if error is None:
        return Verdict.DONE
    never = {kafka.KafkaError.MSG_SIZE_TOO_LARGE, kafka.KafkaError.INVALID_MSG, kafka.KafkaError.INVALID_MSG_SIZE}
    return Verdict.NEVER if error.code() in never else Verdict.AGAIN


# -- NATS


@dataclass(frozen=True, slots=True)
class NatsOptions(TlsOptions):
    """Which servers and subject."""

    hostport: str = option(doc="Servers, with commas between them.", example="nats://nats.example.org:4222")
    subjecttemplate: str = option(
        "falco.<priority>.<rule>", "Subject; `<priority>`, `<rule>`, `<hostname>` are put in."
    )
    jetstream: bool = option(
        True, "Publish to a stream and wait for its acknowledgement; otherwise to core NATS, at most once."
    )
    user: str = option("", "User.")
    password: Secret = option(Secret(""), "Password.")
    token: Secret = option(Secret(""), "Token, in place of user and password.")
    credentials: Path | None = option(None, "File of credentials (`.creds`).")


def subject(template: str, alert: HubAlert) -> str:
    """The subject of an alert: each part is of lower-case letters, digits and `_`."""
    parts = {"priority": alert.priority.label, "rule": alert.rule, "hostname": alert.hostname, "source": alert.source}
    for name, text in parts.items():
        clean = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "none"
        template = template.replace(f"<{name}>", clean[:100])
    return template


class NatsClient(Client):
    """Keeps one connection."""

    def __init__(self, options: NatsOptions) -> None:
        import nats

        self._nats: Any = nats
        self._options = options
        self._connection: Any = None

    async def _connected(self) -> Any:
        if self._connection is None or not self._connection.is_connected:
            await self.close()
            options = self._options
            more: dict[str, Any] = {}
            if options.tls:
                more["tls"] = tls_of(options)
            if options.token:
                more["token"] = str(options.token)
            elif options.user:
                more |= {"user": options.user, "password": str(options.password)}
            if options.credentials:
                more["user_credentials"] = str(options.credentials)
            servers = [f"nats://{s}" if "://" not in s else s for s in options.hostport.split(",")]
            self._connection = await self._nats.connect(
                servers,
                name="tercel",
                connect_timeout=_CONNECT_S,
                allow_reconnect=False,
                error_cb=_quiet,
                max_reconnect_attempts=0,
                **more,
            )
        return self._connection

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Publish them in order, and wait for the stream's acknowledgements, or for the server to have read them."""
        try:
            connection = await self._connected()
            if self._options.jetstream:
                stream = connection.jetstream(timeout=15)
                waits = []
                for alert in batch:
                    headers = {"Nats-Msg-Id": _header(alert.id)}
                    name = subject(self._options.subjecttemplate, alert)
                    waits.append(stream.publish(name, to_bytes(event(alert)), headers=headers))
                await in_order(waits)
            else:
                for alert in batch:
                    headers = {"Nats-Msg-Id": _header(alert.id)}
                    name = subject(self._options.subjecttemplate, alert)
                    await connection.publish(name, to_bytes(event(alert)), headers=headers)
                await connection.flush(15)
        except self._nats.errors.MaxPayloadError as error:
            return Outcome((Verdict.NEVER,) * len(batch), str(error) or "larger than the server takes")
        except self._nats.js.errors.NoStreamResponseError:
            return Outcome((Verdict.AGAIN,) * len(batch), "no stream takes this subject")
        except BaseException:
            await self.close()
            raise
        return done(batch)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed:
            await connection.close()


async def _quiet(error: Exception) -> None:
    """Errors come back from the calls as well."""


def _header(text: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "?", text)[:512]


# -- RabbitMQ


@dataclass(frozen=True, slots=True)
class RabbitmqOptions:
    """Which broker and queue."""

    url: Secret = option(doc="AMQP URL, `amqps://` for TLS.", example="amqp://user:password@rabbit.example.org:5672/")
    queue: str = option("falco", "Queue, or routing key with `exchange`.")
    exchange: str = option("", "Exchange; empty: the default one, which takes the routing key for a queue's name.")
    declare: bool = option(True, "Make the queue, durable, where it is missing.")


class RabbitmqClient(Client):
    """Publishes persistent, mandatory messages with confirms."""

    def __init__(self, options: RabbitmqOptions) -> None:
        import aio_pika

        self._pika: Any = aio_pika
        self._options = options
        self._connection: Any = None
        self._exchange: Any = None

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed:
            await self.close()
            options = self._options
            self._connection = await self._pika.connect(str(options.url), timeout=_CONNECT_S)
            channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            if options.declare and not options.exchange:
                await channel.declare_queue(options.queue, durable=True)
            self._exchange = (
                await channel.get_exchange(options.exchange) if options.exchange else channel.default_exchange
            )
        return self._exchange

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Publish them, and wait for the broker's confirms."""
        from aio_pika.exceptions import DeliveryError

        try:
            exchange = await self._connected()
            waits = [exchange.publish(self._message(alert), self._options.queue, mandatory=True) for alert in batch]
            await in_order(waits)
        except DeliveryError as error:
            return Outcome((Verdict.AGAIN,) * len(batch), f"returned: no queue takes it: {error}"[:200])
        except BaseException:
            await self.close()
            raise
        return done(batch)

    def _message(self, alert: HubAlert) -> Any:
        return self._pika.Message(
            to_bytes(event(alert)),
            content_type="application/json",
            delivery_mode=self._pika.DeliveryMode.PERSISTENT,
            message_id=cut_bytes(alert.id, 250),
            timestamp=alert.ts_ns // 1_000_000_000,
            app_id="tercel",
            headers={"rule": alert.rule, "priority": alert.priority.label, "hostname": alert.hostname},
        )

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._exchange = self._connection, None, None
        if connection is not None:
            await connection.close()


# -- MQTT


@dataclass(frozen=True, slots=True)
class MqttOptions(TlsOptions):
    """Which broker and topic."""

    broker: str = option(doc="Broker.", example="mqtt.example.org:1883")
    topic: str = option("falco/events", "Topic; `<priority>`, `<rule>`, `<hostname>`, `<source>` are put in.")
    qos: int = option(1, "Quality of service: 1 waits for the broker's acknowledgement.", minimum=0, maximum=2)
    retained: bool = option(False, "Mark messages as retained.")
    user: str = option("", "User.")
    password: Secret = option(Secret(""), "Password.")


class MqttClient(Client):
    """One connection for each batch's life, MQTT 5; kept while it works."""

    def __init__(self, options: MqttOptions) -> None:
        import aiomqtt

        self._mqtt: Any = aiomqtt
        self._options = options
        self._client: Any = None

    async def _connected(self) -> Any:
        if self._client is None:
            options = self._options
            address = re.sub(r"^(tcp|mqtts?|ssl)://", "", options.broker)
            host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "")
            client = self._mqtt.Client(
                host,
                int(port) if port else 8883 if options.tls else 1883,
                protocol=self._mqtt.ProtocolVersion.V5,
                username=options.user or None,
                password=str(options.password) or None,
                timeout=_CONNECT_S,
                tls_context=tls_of(options),
                tls_insecure=None if not options.tls else not options.checkcert,
            )
            await client.__aenter__()
            self._client = client
        return self._client

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Publish them in order, each acknowledged as its quality of service has it."""
        try:
            client = await self._connected()
            for alert in batch:
                topic = subject(self._options.topic, alert)
                await client.publish(
                    topic, to_bytes(event(alert)), qos=self._options.qos, retain=self._options.retained, timeout=15
                )
        except self._mqtt.MqttError as error:
            await self.close()
            raise ConnectionError(str(error)) from error
        except BaseException:
            await self.close()
            raise
        return done(batch)

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.__aexit__(None, None, None)
            except self._mqtt.MqttError:
                return


# -- Redis


@dataclass(frozen=True, slots=True)
class RedisOptions(TlsOptions):
    """Which server and key."""

    address: str = option(doc="Server.", example="redis.example.org:6379")
    database: int = option(0, "Number of the database.", minimum=0)
    username: str = option("", "User.")
    password: Secret = option(Secret(""), "Password.")
    storagetype: str = option(
        "list",
        "What the key holds: `list`, `hashmap` (id to event) or `stream`.",
        choices=("list", "hashmap", "stream"),
    )
    key: str = option("falco", "Key.")
    maxlen: int = option(0, "Length at which a list or stream is cut at its old end; 0: never.", minimum=0)


class RedisClient(Client):
    """One transaction for each batch, so that a retry does not double half of it."""

    def __init__(self, options: RedisOptions) -> None:
        import redis.asyncio

        host, _, port = options.address.rpartition(":") if ":" in options.address else (options.address, "", "")
        more: dict[str, Any] = {}
        if options.tls:
            more = {
                "ssl": True,
                "ssl_cert_reqs": "required" if options.checkcert else "none",
                "ssl_ca_certs": str(options.ca_file) if options.ca_file else None,
                "ssl_certfile": str(options.client_cert) if options.client_cert else None,
                "ssl_keyfile": str(options.client_key) if options.client_key else None,
            }
        self._options = options
        self._redis: Any = redis
        self._client: Any = redis.asyncio.Redis(
            host=host,
            port=int(port or 6379),
            db=options.database,
            username=options.username or None,
            password=str(options.password) or None,
            socket_connect_timeout=_CONNECT_S,
            socket_timeout=20,
            **more,
        )

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """RPUSH, HSET or XADD of each in one MULTI: all of them, or none."""
        options = self._options
        try:
            async with self._client.pipeline(transaction=True) as pipe:
                for alert in batch:
                    data = to_bytes(event(alert))
                    if options.storagetype == "hashmap":
                        pipe.hset(options.key, alert.id.encode(errors="replace"), data)
                    elif options.storagetype == "stream":
                        entry = {"id": alert.id.encode(errors="replace"), "event": data}
                        pipe.xadd(options.key, entry, maxlen=options.maxlen or None, approximate=bool(options.maxlen))
                    else:
                        pipe.rpush(options.key, data)
                if options.storagetype == "list" and options.maxlen:
                    pipe.ltrim(options.key, -options.maxlen, -1)
                await pipe.execute()
        except self._redis.exceptions.ResponseError as error:
            if "WRONGTYPE" in str(error):
                return Outcome((Verdict.AGAIN,) * len(batch), f"the key holds something else: {error}")
            raise OSError(str(error)) from error
        except self._redis.exceptions.RedisError as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        return done(batch)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _size(number: int) -> Any:
    return lambda options: number


KINDS = (
    Kind(
        name="kafka",
        title="Apache Kafka",
        category="Queue",
        extra="hub-kafka",
        options=KafkaOptions,
        connect=KafkaClient,
        doc="Messages keyed by host, with the id and the rule as headers and the event's time.",
        delivered="All in-sync replicas have it (`requiredacks: all`).",
        batch=_size(500),
    ),
    Kind(
        name="nats",
        title="NATS",
        category="Queue",
        extra="hub-nats",
        options=NatsOptions,
        connect=NatsClient,
        doc="Messages to JetStream with `Nats-Msg-Id`, so that the stream drops one sent twice; or to core NATS.",
        delivered="The stream acknowledged it; with core NATS, the server has read it.",
        batch=_size(100),
    ),
    Kind(
        name="rabbitmq",
        title="RabbitMQ",
        category="Queue",
        extra="hub-amqp",
        options=RabbitmqOptions,
        connect=RabbitmqClient,
        doc="Persistent, mandatory messages with confirms.",
        delivered="The broker confirmed it, and a queue took it.",
        batch=_size(100),
    ),
    Kind(
        name="mqtt",
        title="MQTT",
        category="Queue",
        extra="hub-mqtt",
        options=MqttOptions,
        connect=MqttClient,
        doc="Messages by MQTT 5.",
        delivered="The broker acknowledged it (`qos: 1` or 2).",
        batch=_size(50),
    ),
    Kind(
        name="redis",
        title="Redis",
        category="Database",
        extra="hub-redis",
        options=RedisOptions,
        connect=RedisClient,
        doc="Entries of a list, a hash or a stream.",
        delivered="Redis ran the transaction.",
        batch=_size(200),
    ),
)
