"""The verbs: one module each, `<verb>_command` in it, loaded when the verb is asked for."""

# verb -> the module that defines its `<verb>_command`.
VERBS: dict[str, str] = {
    "ablate": "helpers.commands.ablate",
    "audit": "helpers.commands.audit",
    "autotune": "helpers.commands.autotune",
    "bench": "helpers.commands.bench",
    "bisect": "helpers.commands.bisect",
    "capture": "helpers.commands.capture",
    "compile": "helpers.commands.compile",
    "diagnose": "helpers.commands.diagnose",
    "gate": "helpers.commands.gate",
    "matrix": "helpers.commands.matrix",
    "minimize": "helpers.commands.minimize",
    "pressure": "helpers.commands.pressure",
    "report": "helpers.commands.report",
    "spec": "helpers.commands.spec",
    "toolchains": "helpers.commands.toolchains",
    "try": "helpers.commands.try_",
}
