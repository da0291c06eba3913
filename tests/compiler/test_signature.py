"""Signatures as typed: matched to the kernel's own parameters, specialised as a launch is, refused with the list."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.compiler.bring.signature import kernel_source, specialise
from helpers.errors import UserError

SOURCE = """
raise SystemExit("this file must not be run")
import triton
import triton.language as tl

@triton.jit
def scaled(x_ptr, y_ptr, scale, n, stride_x, stride_y: tl.int64, M: tl.constexpr, KIND: tl.constexpr = "plain",
           bias_ptr=None):
    pass

@triton.autotune(configs=CONFIGS, key=["n"])
@triton.jit(do_not_specialize=["n"])
def tuned(x_ptr, n, B: tl.constexpr):
    pass

def plain(x):
    pass
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("signature") / "kernels.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def scaled(file):
    return kernel_source(file, "scaled")


def test_positional_and_named_items_in_tritons_own_spelling(scaled):
    parts = specialise(scaled, "*bf16:16, y_ptr=*fp8e4nv, fp32, i32, stride_*=i32:16, M=128", {})
    assert parts.signature == (
        ("x_ptr", "*bf16"), ("y_ptr", "*fp8e4nv"), ("scale", "fp32"), ("n", "i32"), ("stride_x", "i32"),
        ("stride_y", "i32"), ("M", "constexpr"), ("KIND", "constexpr"), ("bias_ptr", "constexpr"),
    )  # fmt: skip
    assert parts.constexprs == (("M", 128), ("KIND", "plain"), ("bias_ptr", None))
    assert parts.divisible_by_16 == ("x_ptr", "stride_x", "stride_y")


def test_values_of_runtime_parameters_are_specialised_as_a_launch_would(file, scaled):
    given = {"x_ptr": "*fp32", "y_ptr": "*fp32", "scale": 0.5, "n": 4096, "stride_x": 1, "stride_y": 1, "M": 64}
    parts = specialise(scaled, given, {})
    kinds = dict(parts.signature)
    assert (kinds["scale"], kinds["n"], kinds["stride_x"], kinds["stride_y"]) == ("fp32", "i32", "constexpr", "i64")
    assert dict(parts.constexprs)["stride_x"] == 1 and parts.divisible_by_16 == ("n",)
    assert dict(specialise(scaled, {**given, "n": 2**31}, {}).signature)["n"] == "i64"
    # An argument that Triton was told not to specialise keeps its type also when it is 1 or divisible by 16.
    tuned = kernel_source(file, "tuned")
    for value in (1, 16):
        assert specialise(tuned, {"x_ptr": "*fp32", "n": value, "B": 8}, {}).divisible_by_16 == ()
        assert dict(specialise(tuned, {"x_ptr": "*fp32", "n": value, "B": 8}, {}).signature)["n"] == "i32"


def test_the_specialisation_of_values_is_tritons_own(tmp_path):
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend
    from triton.runtime.jit import MockTensor, create_function_from_signature

    path = tmp_path / "real.py"
    path.write_text(
        "import triton\nimport triton.language as tl\n\n@triton.jit\n"
        "def k(p, a, b: tl.int64, c=None, D: tl.constexpr = 3):\n    pass\n"
    )
    import importlib.util

    spec = importlib.util.spec_from_file_location("real_signature", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    backend = make_backend(GPUTarget("cuda", 90, 32))
    bind = create_function_from_signature(module.k.signature, module.k.params, backend)
    import triton.language as tl

    for a in (0, 1, 7, 16, 2**31, -(2**31) - 1, 2**63, 0.5, True, None):
        for b in (0, 1, 16, 17):
            bound, kinds, options = bind(MockTensor(tl.float16), a, b)
            _, signature, constants, attributes = module.k._pack_args(backend, options, bound, kinds, None)
            parts = specialise(kernel_source(path, "k"), {"p": "*fp16:16", "a": a, "b": b}, {})
            names = list(signature)
            assert dict(parts.signature) == signature, (a, b)
            assert dict(parts.constexprs) == {names[p[0]]: v for p, v in constants.items()}
            assert set(parts.divisible_by_16) == {names[p[0]] for p, v in attributes.items() if v}, (a, b)


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("", r"still needs x_ptr, y_ptr, scale, n, stride_x, stride_y, M \(constexpr\)\. Its parameters: x_ptr"),
        ("*bf16, *bf17", r"'\*bf17' is no type"),
        ("*bf16:8", "no type|after the colon"),
        ("M=*bf16", "M is a tl.constexpr: give it a value"),
        ("m=1", "no parameter 'm'; it has x_ptr"),
        ("zz*=1", "no parameter of scaled is like"),
        ("x_ptr=hello", "cannot read 'hello'"),
        ("*bf16, x_ptr=*bf16", "twice"),
        ("M=1, *bf16", "stands after a name=item"),
        ("*bf16,, fp32", "item 2 of the signature is empty"),
        (",".join(["fp32"] * 12), "12 items, scaled 9 parameters"),
        ("fp32:1", "only an integer"),
        ("x" * 30_000, "at most 20000"),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(scaled, signature, said):
    with pytest.raises(UserError, match=said):
        specialise(scaled, signature, {})


def test_a_name_that_is_no_kernel_lists_those_that_are(file):
    with pytest.raises(UserError, match=r"not defined.*kernels there: scaled, tuned"):
        kernel_source(file, "nope")
    with pytest.raises(UserError, match=r"no @triton.jit function"):
        kernel_source(file, "plain")
    assert kernel_source(file, "tuned").autotuned and not kernel_source(file, "scaled").autotuned


@given(st.text(alphabet="abxM*,=:'\"()[]<>-.0123456789 \\\n\0é", max_size=60))
def test_no_signature_ends_in_anything_but_a_sentence(scaled, text):
    try:
        specialise(scaled, text, {})
    except UserError as exc:
        assert len(str(exc)) > 20
