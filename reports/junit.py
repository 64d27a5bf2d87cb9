"""The diagnosis for CI: one suite per node with a test case per check, one of verdicts, one of what was not seen."""

from __future__ import annotations

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from checks.diagnosis import Diagnosis, Hop, Verdict, doubtful
from checks.finding import Finding, Status
from reports import plain
from reports.matrix import UNPROVEN, first_losing, hop_name, spoken


def render(diagnosis: Diagnosis) -> str:
    """JUnit XML: fail is a failure, unknown an error, skip skipped; a warning passes, and says so in system-out.

    A verdict is a failure of the suite "verdicts", a node that could not be read an error of its own suite, a hop that
    could not be asked one of its node's, and skipped where its pod seems to be kept out. What could not be seen is
    skipped, an error where nothing was proven.
    """
    report = JUnitXml("dnsmend")
    verdicts = _suite("verdicts", diagnosis)
    for verdict in diagnosis["verdicts"]:
        verdicts.add_testcase(_verdict(diagnosis, verdict))
    report.add_testsuite(verdicts)
    by_node: dict[str, list[Finding]] = {node: [] for node in diagnosis["nodes"]}
    for finding in diagnosis["findings"]:
        by_node.setdefault(finding["node"], []).append(finding)
    for node, findings in by_node.items():
        suite = _suite(plain.line(node), diagnosis)
        if why := diagnosis["nodes"].get(node, ""):
            suite.add_testcase(_case("readable", plain.line(node), Error(plain.line(why))))
        unknown = [hop for hop in diagnosis["hops"] if hop["node"] == node and hop["state"] == "unknown"]
        suite.add_testcases([*map(_finding, findings), *map(_unknown, unknown)])
        report.add_testsuite(suite)
    if diagnosis["unseen"]:
        unseen = _suite("unseen", diagnosis)
        unseen.add_testcases(list(map(_unseen, diagnosis["unseen"])))
        report.add_testsuite(unseen)
    report.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = report.tostring()  # type: ignore[no-untyped-call]
    return text.decode() + "\n"


def _suite(name: str, diagnosis: Diagnosis) -> TestSuite:
    suite = TestSuite(name)
    suite.timestamp = plain.line(diagnosis["started"])
    return suite


def _case(name: str, where: str, result: Error | Failure | Skipped | None) -> TestCase:
    case = TestCase(name, where)
    if result is not None:
        case.result = [result]
    return case


def _finding(finding: Finding) -> TestCase:
    sentence = plain.line(finding["sentence"])
    result: Error | Failure | Skipped | None = None
    if finding["status"] == Status.FAIL:
        result = Failure(sentence, "fail")
    elif finding["status"] == Status.UNKNOWN:
        result = Error(sentence, "unknown")
    elif finding["status"] == Status.SKIP:
        result = Skipped(sentence)
    evidence = "\n".join(plain.evidence(finding["evidence"]))
    if result is not None and evidence:
        result.text = evidence
    name = f"{plain.line(finding['check'])}: {plain.line(finding['title'])}"
    case = _case(name, plain.line(finding["node"]), result)
    if finding["status"] == Status.WARN:
        case.system_out = f"warning: {sentence}\n{evidence}".rstrip()
    return case


def _unknown(hop: Hop) -> TestCase:
    result: Error | Skipped = Error("it could not be asked", "unknown")
    if not doubtful(hop):
        result = Skipped(plain.line(hop["why"]))
    result.text = "\n".join(map(spoken, hop["losses"]))
    return _case(f"hop: {hop_name(hop)}", plain.line(hop["node"]), result)


def _unseen(sentence: str) -> TestCase:
    said = plain.line(sentence)
    return _case(said, "unseen", Error(said, "unknown") if sentence.startswith(UNPROVEN) else Skipped(said))


def _verdict(diagnosis: Diagnosis, verdict: Verdict) -> TestCase:
    hop = first_losing(diagnosis, verdict)
    failure = Failure(plain.line(verdict["sentence"]), "verdict")
    failure.text = "\n".join(
        [
            *plain.evidence(verdict["evidence"]),
            *(f"ruled out: {plain.line(out['check'])}: {plain.line(out['sentence'])}" for out in verdict["ruled_out"]),
        ]
    )
    name = ": ".join(filter(None, (plain.line(verdict["check"]), plain.line(verdict["title"]) or "cause not found")))
    case = _case(name, "verdicts", failure)
    told = {
        "first losing hop": verdict["hop"],
        "loss": "; ".join(map(spoken, hop["losses"])) if hop else "",
        "repair": ", ".join(verdict["culprits"]),
        "affected": ", ".join(verdict["affected"]),
        "consequence": verdict["consequence"],
        "fix": verdict["fix"],
        "certainty": verdict["certainty"],
    }
    # Whole, as a command has to be: the fix.
    case.system_out = "\n".join(
        f"{what}: {plain.command(text) if what == 'fix' else plain.line(text)}" for what, text in told.items() if text
    )
    return case
