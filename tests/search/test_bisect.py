"""bisect: the first good or bad version with the fewest installs; the matrix of pairs and its recorded rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.record_version_matrix import MATRIX_TRITONS, Pair, pair_request, pair_row, readable_pairs, version_pairs
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.commands.bisect import bisection_dict
from helpers.compiler.compile import compile_matrix
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import KNOWN_PTXAS, ToolchainMissing, resolve_triton
from helpers.errors import UserError
from helpers.recorded import read_rows
from helpers.search.bisect import BAD, GOOD, OTHER, UNKNOWN, bisect_kernel, bisect_versions, judge
from helpers.workbook.root_cause.versions import version_findings, version_grid

VERSIONS = [f"3.{n}.0" for n in range(16)]


class World:
    """Versions with a verdict each, some of them on hand; counts what is installed and probed."""

    def __init__(self, verdicts: dict[str, str], on_hand=(), refused=()) -> None:
        self.verdicts, self.there, self.refused = verdicts, set(on_hand), set(refused)
        self.probed, self.fetched = [], []

    def probe(self, version):
        assert version in self.there, f"{version} was probed without being there"
        self.probed.append(version)
        return self.verdicts[version], "words"

    def install(self, version):
        if version in self.refused:
            raise ToolchainMissing(f"pip could not fetch {version}")
        self.fetched.append(version)
        self.there.add(version)

    def bisect(self, *, may_install=True, **options):
        return bisect_versions(
            self.verdicts,
            self.probe,
            is_installed=self.there.__contains__,
            install=self.install if may_install else None,
            **options,
        )


def flips_at(index: int, before=BAD, after=GOOD) -> dict[str, str]:
    return {v: before if i < index else after for i, v in enumerate(VERSIONS)}


@given(st.integers(1, 15), st.sets(st.sampled_from(VERSIONS)), st.sampled_from([(BAD, GOOD), (GOOD, BAD)]))
def test_the_flip_is_found_with_few_installs(index, on_hand, sides):
    world = World(flips_at(index, *sides), on_hand)
    found = world.bisect(find=sides[1])
    assert (found.answer.before, found.answer.after) == (VERSIONS[index - 1], VERSIONS[index]) and found.answer.exact
    assert found.installs == len(world.fetched) == sum(p.installed_for_this for p in found.probes)
    # Two ends at most, then halving what is left.
    assert found.installs <= 2 + math.ceil(math.log2(len(VERSIONS)))
    assert len(set(world.probed)) == len(world.probed)


@given(st.integers(1, 15), st.sets(st.sampled_from(VERSIONS)))
def test_nothing_is_installed_unasked(index, on_hand):
    world = World(flips_at(index), on_hand)
    found = world.bisect(may_install=False)
    assert world.fetched == [] and found.installs == 0 and {p.version for p in found.probes} == on_hand
    if found.answer is not None and not found.answer.exact:
        assert "toolchains install" in found.sentence()
        assert all(v not in on_hand for v in found.answer.untried)
        if untried := found.answer.untried:
            said = found.sentence()
            assert f"is {found.answer.after} at the latest, and {found.answer.before} is not it" in said
            assert f"{' and '.join(untried)} between them could not be tried here" in said
            assert f"`register-cliff toolchains install {untried[len(untried) // 2]}`" in said


def test_everything_on_hand_costs_no_install_and_one_gap_is_halved():
    world = World(flips_at(9), on_hand=["3.0.0", "3.4.0", "3.12.0", "3.15.0"])
    found = world.bisect()
    assert found.installs == 3 and set(world.fetched) == {"3.8.0", "3.10.0", "3.9.0"}
    assert found.sentence() == "the first good Triton is 3.9.0; 3.8.0 is the one before it"


def test_good_bad_good_has_both_answers():
    verdicts = {v: BAD if v in ("3.5.0", "3.6.0") else GOOD for v in VERSIONS}
    found = World(verdicts, VERSIONS).bisect(find=BAD)
    assert (found.answer.after, [c.after for c in found.changes]) == ("3.5.0", ["3.5.0", "3.7.0"])
    assert World(verdicts, VERSIONS).bisect(find=GOOD).answer.after == "3.7.0"
    assert World(verdicts, VERSIONS).bisect(find=BAD, since="3.6.0").answer is None


def test_no_flip_is_said_so_after_two_installs_at_most():
    for verdict in (GOOD, BAD):
        world = World(dict.fromkeys(VERSIONS, verdict))
        found = world.bisect(find=GOOD)
        assert found.answer is None and "no change to good" in found.sentence() and found.installs <= 2


def test_a_version_that_cannot_be_fetched_or_judged_stays_open():
    world = World(flips_at(9) | {"3.8.0": UNKNOWN}, on_hand=["3.0.0", "3.7.0", "3.15.0"], refused=["3.9.0"])
    found = world.bisect()
    answer = found.answer
    assert (answer.before, answer.after, answer.untried) == ("3.7.0", "3.10.0", ())
    assert answer.undecided == ("3.8.0", "3.9.0") and not answer.exact
    assert "3.8.0 and 3.9.0 between them gave no verdict" in found.sentence()


@pytest.mark.parametrize("options", [{"find": "maybe"}, {"since": "9.9.9"}])
def test_what_cannot_be_asked_is_refused(options):
    with pytest.raises(UserError):
        World(flips_at(3)).bisect(**options)


def report(status, spills=0):
    return CompileReport(
        status=status, arch="sm_100a", triton_version="3.5.1", ptxas_version=None, spill_store_bytes=spills
    )


def test_judgement():
    assert judge(report("ok")) == judge(report("spills", 700)) == GOOD
    assert judge(report("spills", 700), max_spill_bytes=699) == BAD
    assert judge(report("spills", 700), max_spill_bytes=700) == GOOD
    assert judge(report("register_exhausted")) == judge(report("trapped")) == BAD
    assert judge(report("toolchain_missing")) == judge(report("unsupported_ptx_version")) == UNKNOWN


def test_the_incident_ends_after_3_6(toolchain_351):
    request = INCIDENT_CHOICE.request()
    found = bisect_kernel(request.spec, request.arch, since="3.5.1", versions=("3.5.1", "3.6.0", "3.7.0", "3.7.1"))
    verdicts = {p.version: p.verdict for p in found.probes}
    assert verdicts["3.5.1"] == BAD and verdicts["3.7.1"] == GOOD and found.installs == 0
    assert found.answer.verdict == GOOD and found.answer.before in ("3.5.1", "3.6.0")
    assert found.answer.after in ("3.7.0", "3.7.1") and bisection_dict(found)["first"] == found.answer.after
    with pytest.raises(UserError, match="cannot bisect 'cuda'"):
        bisect_kernel(request.spec, request.arch, axis="cuda")


def test_no_ptxas_mends_the_crash(toolchain_351):
    request = INCIDENT_CHOICE.request()
    found = bisect_kernel(
        request.spec,
        request.arch,
        axis="ptxas",
        toolchain=request.toolchain,
        versions=("12.8.93", "12.9.86", "13.1.80"),
    )
    assert {"12.8.93", "13.1.80"} <= {p.version for p in found.probes}  # 3.5.1's own and the environment's
    assert {p.verdict for p in found.probes} == {BAD} and found.answer is None


# --- the matrix -------------------------------------------------------------------------------------------


def test_a_ptxas_too_old_is_a_reason_and_a_second_pair(toolchain_351):
    try:
        resolve_triton("3.6.0")
    except ToolchainMissing as exc:
        pytest.skip(str(exc))
    request = replace(INCIDENT_CHOICE, head_dim=64, window=None, tile="16x64").request()
    pairs = [Pair("3.5.1"), Pair("3.6.0", "12.8.93"), Pair("9.9.9")]
    reports = compile_matrix([pair_request(request.spec, request.arch, p) for p in pairs])
    rows = [pair_row(p, r) for p, r in zip(pairs, reports, strict=True)]
    assert [r["status"] for r in rows][1:] == ["unsupported_ptx_version", "toolchain_missing"]
    assert rows[0]["reason"] == "" and "8.8" in rows[1]["reason"] and "9.9.9 is not installed" in rows[2]["reason"]
    again = readable_pairs(pairs, reports)
    assert again == [Pair("3.6.0", "12.8.93", for_codegen=True)]
    too_old = replace(reports[1], label="too old")
    assert readable_pairs([Pair("3.6.0"), *again], [too_old, too_old]) == []  # bundled, and already written for it
    (second,) = compile_matrix([pair_request(request.spec, request.arch, p) for p in again])
    assert second.compiled and second.ptx_version == "8.7"


def test_the_recorded_matrix_has_every_pair_or_its_reason():
    rows = read_rows("version_matrix")
    own = rows[rows["ptx_written_for"] == "its own"]
    assert {(t, p) for t, p in zip(own["triton"], own["ptxas_asked"], strict=True)} == {
        (p.triton, p.ptxas) for p in version_pairs()
    }
    assert len(own) == len(version_pairs()) == len(MATRIX_TRITONS) * (1 + len(KNOWN_PTXAS))
    judged = own["status"].isin(["ok", "spills", "register_exhausted"])
    assert own.loc[judged, "reason"].isna().all() and own.loc[~judged, "reason"].str.len().gt(10).all()
    # The identical PTX of each Triton went to every ptxas.
    assert (own.groupby("triton")["ptx_sha256"].nunique() == 1).all()
    named = own[own["ptxas_asked"] != "bundled"]
    ran = named["ptxas_version"].notna()
    assert (named.loc[ran, "ptxas_version"] == named.loc[ran, "ptxas_asked"]).all()


def test_the_recorded_matrix_says_who_mended_it():
    rows = read_rows("version_matrix")
    found = version_findings(rows)
    assert found["dying"] == ["3.5.0", "3.5.1", "3.6.0"] and found["first_fixed"] == "3.7.0"
    assert found["by_ptxas_alone"] == [] and found["decided_by"] == "Triton"
    assert found["ptxas_per_triton"]["3.5.1"] == len(KNOWN_PTXAS)
    grid = version_grid(rows)
    assert list(grid.rows) == list(MATRIX_TRITONS) and grid.columns[0] == "bundled"
    for triton, cells in zip(grid.rows, grid.cells, strict=True):
        dead = [cell.words.startswith("✕ C7600") for cell in cells]
        assert all(dead) if triton in found["dying"] else not any(dead)
    # Were one ptxas to compile 3.5.1's PTX, it could not be Triton alone that decides.
    changed = rows.copy()
    row = (changed["triton"] == "3.5.1") & (changed["ptxas_asked"] == "13.5.37")
    changed.loc[row, "status"] = "spills"
    assert version_findings(changed)["decided_by"] == "ptxas"
    assert version_findings(changed)["by_ptxas_alone"] == ["3.5.1"]
    # What dies again later was not mended before.
    changed.loc[(changed["triton"] == "3.8.0"), "status"] = "register_exhausted"
    assert version_findings(changed)["first_fixed"] == "3.9.0"


# --- another failure is neither good nor bad --------------------------------------------------------------


def test_another_failure_ends_this_one_and_the_sentence_says_what_is_there_instead():
    verdicts = {v: BAD if i < 4 else OTHER if i < 9 else GOOD for i, v in enumerate(VERSIONS)}
    found = World(verdicts, VERSIONS).bisect()
    assert (found.answer.before, found.answer.after, found.answer.verdict) == ("3.3.0", "3.4.0", OTHER)
    assert found.sentence().startswith("the first Triton where this failure is gone is 3.4.0; 3.3.0 is the one before")
    assert "Another failure takes its place there (words); 3.9.0 is the first tried that compiles" in found.sentence()
    assert World(verdicts, VERSIONS).bisect(find=BAD).answer is None


def test_a_release_with_another_failure_did_not_bring_this_one():
    verdicts = {v: OTHER if i < 4 else BAD for i, v in enumerate(VERSIONS)}
    assert World(verdicts, VERSIONS).bisect(find=BAD).answer.after == "3.4.0"
    assert World(verdicts, VERSIONS).bisect(find=GOOD).answer is None


def test_no_later_release_compiles_is_said():
    found = World(flips_at(5, BAD, OTHER), VERSIONS).bisect()
    assert found.answer.after == "3.5.0" and found.sentence().endswith("none tried after it compiles")


@given(st.integers(1, 15), st.sets(st.sampled_from(VERSIONS)))
def test_the_flip_to_another_failure_is_found_with_few_installs(index, on_hand):
    world = World(flips_at(index, BAD, OTHER), on_hand)
    found = world.bisect()
    assert (found.answer.before, found.answer.after) == (VERSIONS[index - 1], VERSIONS[index]) and found.answer.exact
    assert found.installs <= 2 + math.ceil(math.log2(len(VERSIONS)))


def test_the_judge_asks_for_the_same_failure():
    looked_for = replace(report("register_exhausted"), ptxas_code="C7600")
    assert judge(looked_for, failure=looked_for) == BAD
    assert judge(replace(looked_for, ptxas_code="C7602"), failure=looked_for) == OTHER
    assert judge(report("out_of_shared_memory"), failure=looked_for) == OTHER
    assert judge(report("out_of_shared_memory")) == BAD and judge(report("spills", 8), 4, looked_for) == BAD
    assert judge(report("ok"), failure=looked_for) == GOOD and judge(report("timeout"), failure=looked_for) == UNKNOWN
