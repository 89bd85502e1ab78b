"""Fields of the user and group that the process runs as, and of the login it descends from."""

from appliance.model.field import Field, FieldType

T = FieldType

ROWS = (
    Field("user.uid", T.UINT, "number of the effective user, in the host's namespace", "e.process.euid"),
    Field("user.name", T.TEXT, "name of the effective user", "e.process.user and e.process.user.name"),
    Field("user.homedir", T.TEXT, "home directory of the effective user", "e.process.user and e.process.user.homedir"),
    Field("user.shell", T.TEXT, "login shell of the effective user", "e.process.user and e.process.user.shell"),
    Field("user.ruid", T.UINT, "number of the real user", "e.process.uid"),
    Field("user.loginuid", T.INT, "number of the user who logged in (auid), -1 if nobody did", "e.process.loginuid"),
    Field("user.loginname", T.TEXT, "name of the user who logged in", "e.process.login and e.process.login.name"),
    Field("group.gid", T.UINT, "number of the effective group", "e.process.egid"),
    Field("group.name", T.TEXT, "name of the effective group", "e.process.group and e.process.group.name"),
)
