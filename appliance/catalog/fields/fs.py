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
        "absolute path of the existing file in a successful call with two",
        "e.source_path if e.res >= 0 else None",
    ),
    Field("fs.path.sourceraw", T.PATH, "the same as the caller gave it", "e.source_path_raw if e.res >= 0 else None"),
    Field(
        "fs.path.target",
        T.PATH,
        "absolute path of the new file in a successful call with two",
        "e.target_path if e.res >= 0 else None",
    ),
    Field("fs.path.targetraw", T.PATH, "the same as the caller gave it", "e.target_path_raw if e.res >= 0 else None"),
    Field(
        "fs.paths",
        T.TEXT,
        "the path an event is about, of whatever kind; `source -> target` where there are two (not in Falco)",
        "paths_text(e)",
    ),
)
