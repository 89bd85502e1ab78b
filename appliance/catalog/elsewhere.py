"""What Falco has a name for and no event that we hear carries: fields, events, arguments.

Comes in: nothing. Goes out: rows whose value is always absent, and names. A rule that asks for one of them is loaded
and warned of: the check is false, as on any absent value. Names and types are those of Falco 0.44.1 (`falco --list`,
`falco --list-events`) and of its plugin for Kubernetes audit events.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.model.field import OF_ALL_SOURCES, SOURCES, ArgKind, Field, FieldType

T, A = FieldType, ArgKind
_DOC = "absent from every event that is heard, as in Falco"

_NAMES: tuple[tuple[FieldType, ArgKind, bool, str], ...] = (
    # Falco tells them on events that nobody hears: of the scheduler and of its own counting
    (
        T.DOUBLE, A.NONE, False,
        """
        thread.cpu thread.cpu.system thread.cpu.user
        """,
    ),
    # of plugins that we have none of; the others are deprecated and empty in Falco, too
    (
        T.TEXT, A.NONE, False,
        """
        evt.asynctype
        k8s.deployment.id k8s.deployment.labels k8s.deployment.name k8s.ns.id k8s.ns.labels
        k8s.rc.id k8s.rc.labels k8s.rc.name k8s.rs.id k8s.rs.labels k8s.rs.name k8s.svc.id k8s.svc.labels
        k8s.svc.name
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, True,
        """
        k8s.deployment.label k8s.ns.label k8s.rc.label k8s.rs.label
        k8s.svc.label
        """,
    ),
)  # fmt: skip


def _sources(name: str) -> tuple[str, ...]:
    return SOURCES if name in OF_ALL_SOURCES else ("k8s_audit",) if name.startswith("ka.") else ("syscall",)


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        name: Field(name, type_, _DOC, "None", arg, arg_required=required, sources=_sources(name))
        for type_, arg, required, names in _NAMES
        for name in names.split()
    }
)


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


EVENT_NAMES = _set(
    """
    asyncevent cpu_hotplug drop groupadded groupdeleted infra notification page_fault scapevent
    signaldeliver switch useradded userdeleted
    """
)

PARAM_NAMES = _set(
    """
    action container_id cpu cpu_sys cpu_usr desc description dpid error event_data event_type home ip next plugin_id
    ratio scope shell spid
    """
)
