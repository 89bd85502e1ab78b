"""What Falco has a name for and this version cannot tell yet: fields, events, arguments.

Comes in: nothing. Goes out: rows whose value is always absent, and names. A rule that asks for one of them is loaded
and warned of: the check is false, as on any absent value. Names and types are those of Falco 0.44.1 (`falco --list`,
`falco --list-events`) and of its plugin for Kubernetes audit events.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind
_DOC = "known to Falco, never told by this version"

_NAMES: tuple[tuple[FieldType, ArgKind, bool, str], ...] = (
    (
        T.ABSTIME, A.NONE, False,
        """
        proc.exe_ino.ctime
        proc.exe_ino.ctime_duration_pidns_start proc.exe_ino.ctime_duration_proc_start proc.exe_ino.mtime
        """,
    ),
    (
        T.BOOL, A.NONE, False,
        """
        evt.is_io evt.is_io_read
        evt.is_io_write evt.is_syslog evt.is_wait
        proc.is_exe_from_memfd proc.is_exe_lower_layer proc.is_exe_upper_layer
        proc.is_exe_writable proc.is_vpgid_leader
        """,
    ),
    (
        T.BYTES, A.NONE, False,
        """
        evt.buffer
        """,
    ),
    (
        T.DOUBLE, A.NONE, False,
        """
        proc.fdusage thread.cpu thread.cpu.system thread.cpu.user
        """,
    ),
    (
        T.INT, A.NONE, False,
        """
        proc.exe_ino proc.fdlimit proc.loginshellid
        proc.vpgid thread.vtid
        """,
    ),
    (
        T.RELTIME, A.NONE, False,
        """
        evt.deltatime evt.deltatime.ns evt.deltatime.s evt.reltime evt.reltime.ns
        evt.reltime.s proc.duration proc.ppid.duration proc.ppid.ts thread.exectime thread.totexectime
        """,
    ),
    (
        T.TEXT, A.NONE, False,
        """
        evt.asynctype evt.hostname evt.info evt.io_dir
        evt.plugininfo evt.pluginname fd.cip.name fd.lip.name fd.rip.name fd.sip.name
        fdlist.cips fdlist.cports fdlist.names fdlist.nums fdlist.sips fdlist.sports k8s.deployment.id
        k8s.deployment.labels k8s.deployment.name k8s.ns.id k8s.ns.labels
        k8s.rc.id k8s.rc.labels k8s.rc.name k8s.rs.id k8s.rs.labels k8s.rs.name k8s.svc.id k8s.svc.labels
        k8s.svc.name
        proc.vpgid.exe proc.vpgid.exepath proc.vpgid.name thread.cgroups
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, False,
        """
        proc.aenv proc.env
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, False,
        """
        fd.types
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, True,
        """
        k8s.deployment.label k8s.ns.label k8s.rc.label k8s.rs.label
        k8s.svc.label thread.cgroup
        """,
    ),
    (
        T.UINT, A.NONE, False,
        """
        evt.buflen evt.count.error evt.count.error.file evt.count.error.memory evt.count.error.net
        evt.count.error.other evt.count.exit proc.fdopencount proc.nchilds proc.nthreads
        proc.pidns_init_start_ts proc.vmrss proc.vmsize proc.vmswap thread.pfmajor thread.pfminor thread.vmrss
        thread.vmsize
        """,
    ),
    (
        T.UINT, A.INDEX_OR_KEY, True,
        """
        evt.around evt.type.is
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, False,
        """
        jevt.value ka.req.pod.containers.add_capabilities ka.req.pod.containers.allow_privilege_escalation
        ka.req.pod.containers.args ka.req.pod.containers.command ka.req.pod.containers.eff_run_as_group
        ka.req.pod.containers.eff_run_as_user ka.req.pod.containers.host_port ka.req.pod.containers.image
        ka.req.pod.containers.image.repository ka.req.pod.containers.name ka.req.pod.containers.privileged
        ka.req.pod.containers.proc_mount ka.req.pod.containers.read_only_fs ka.req.pod.containers.run_as_group
        ka.req.pod.containers.run_as_user ka.req.pod.initContainers.allow_privilege_escalation
        ka.req.pod.initContainers.args ka.req.pod.initContainers.command ka.req.pod.initContainers.image
        ka.req.pod.initContainers.image.repository ka.req.pod.initContainers.name
        ka.req.pod.initContainers.privileged ka.req.pod.initContainers.read_only_fs
        ka.req.pod.initContainers.run_as_user ka.req.pod.volumes.flexvolume_driver ka.req.pod.volumes.hostpath
        ka.req.pod.volumes.volume_type ka.req.role.rules.apiGroups ka.req.role.rules.nonResourceURLs
        ka.req.role.rules.resources ka.req.role.rules.verbs ka.req.service.ports ka.sourceips
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, True,
        """
        ka.req.binding.subject.has_name ka.req.volume.hostpath ka.uri.param
        """,
    ),
    (
        T.TEXT, A.NONE, False,
        """
        jevt.obj jevt.rawtime ka.auditid ka.auth.decision ka.auth.openshift.decision ka.auth.openshift.username
        ka.auth.reason ka.cluster.name ka.impuser.name ka.req.binding.role ka.req.binding.subjects
        ka.req.binding.subjects.group_names ka.req.binding.subjects.serviceaccount_names
        ka.req.binding.subjects.serviceaccount_ns_names ka.req.binding.subjects.user_names ka.req.configmap.name
        ka.req.configmap.obj ka.req.container.host_network ka.req.container.image
        ka.req.container.image.repository ka.req.container.privileged ka.req.pod.ephemeralContainers.privileged
        ka.req.pod.fs_group ka.req.pod.host_ipc
        ka.req.pod.host_network ka.req.pod.host_pid ka.req.pod.run_as_group ka.req.pod.run_as_user
        ka.req.pod.supplemental_groups ka.req.role.rules ka.req.service.type ka.resp.name ka.response.code
        ka.response.reason ka.security.pod.violations ka.stage ka.target.name ka.target.namespace
        ka.target.pod.name ka.target.resource ka.target.subresource ka.uri ka.user.groups ka.user.name
        ka.useragent ka.validations.admission.policy.failure ka.verb
        """,
    ),
)  # fmt: skip

FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        name: Field(name, type_, _DOC, "None", arg, arg_required=required)
        for type_, arg, required, names in _NAMES
        for name in names.split()
    }
)


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


EVENT_NAMES = _set(
    """
    asyncevent cpu_hotplug drop groupadded groupdeleted infra notification page_fault pluginevent scapevent
    signaldeliver switch useradded userdeleted
    """
)

PARAM_NAMES = _set(
    """
    action container_id cpu cpu_sys cpu_usr desc description dpid env error event_data event_type exe_ino
    exe_ino_ctime exe_ino_mtime fdlimit home ip next pgft_maj pgft_min pidns_init_start_ts plugin_id ratio
    reaper_tid scope shell spid vpgid vtid
    """
)
