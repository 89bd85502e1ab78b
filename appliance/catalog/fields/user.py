"""Fields of the user and group that the process runs as, and of the login it descends from."""

from appliance.model.field import Field, FieldType

T = FieldType

ROWS = (
    Field("user.uid", T.UINT, "number of the effective user, in the host's namespace", "e.process.euid"),
    Field("user.name", T.TEXT, "name of the effective user", "name_of(e.process.user, e.process.euid)"),
    Field("user.homedir", T.TEXT, "home directory of the effective user", "home_of(e.process.user, e.process.euid)"),
    Field("user.shell", T.TEXT, "login shell of the effective user", "shell_of(e.process.user, e.process.euid)"),
    Field("user.ruid", T.UINT, "number of the real user", "e.process.uid"),
    Field("user.loginuid", T.INT, "number of the user who logged in (auid), -1 if nobody did", "e.process.loginuid"),
    Field("user.loginname", T.TEXT, "name of the user who logged in", "name_of(e.process.login, e.process.loginuid)"),
    Field("group.gid", T.UINT, "number of the effective group", "e.process.egid"),
    Field("group.name", T.TEXT, "name of the effective group", "name_of(e.process.group, e.process.egid)"),
)
