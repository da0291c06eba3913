"""The verbs beside the first ones: one module each, `<verb>_command` in it, loaded when the verb is asked for."""

# verb -> the module that defines its `<verb>_command`.
VERBS: dict[str, str] = {
    "audit": "helpers.commands.audit",
    "autotune": "helpers.commands.autotune",
    "capture": "helpers.commands.capture",
    "diagnose": "helpers.commands.diagnose",
    "minimize": "helpers.commands.minimize",
    "report": "helpers.commands.report",
    "spec": "helpers.commands.spec",
    "try": "helpers.commands.try_",
}
