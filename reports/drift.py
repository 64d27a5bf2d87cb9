"""What differs between nodes and policy, for people and for CI: one line, and one test case, per node and operation."""

from __future__ import annotations

from typing import TypedDict

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from reports import plain


class Pending(TypedDict):
    """One operation that would change one node, and why, as far as that is known."""

    node: str
    operation: str
    because: list[str]


class Drift(TypedDict):
    """
    What was compared.

    + nodes: those that were compared with the policy
    + pending: what would be changed on them
    + errors: why the comparison is not complete, in sentences
    """

    nodes: list[str]
    pending: list[Pending]
    errors: list[str]


def text(drift: Drift) -> str:
    """For people: what is pending, what went wrong, and a line that says how it stands."""
    lines: list[str] = []
    for each in drift["pending"]:
        lines.append(f"DRIFT {plain.line(each['node'])}: {plain.line(each['operation'])}")
        lines += [f"    {plain.line(because)}" for because in each["because"]]
    lines += [f"ERROR {plain.line(sentence)}" for sentence in drift["errors"]]
    nodes = {each["node"] for each in drift["pending"]}
    if drift["errors"]:
        lines.append("the comparison is not complete")
    elif nodes:
        operations = "1 operation is" if len(drift["pending"]) == 1 else f"{len(drift['pending'])} operations are"
        lines.append(f"{operations} pending, on {len(nodes)} of {len(drift['nodes'])} nodes")
    else:
        lines.append(f"no drift: {len(drift['nodes'])} nodes are as the policy wants them")
    return "\n".join(lines) + "\n"


def junit(drift: Drift) -> str:
    """JUnit XML: a suite per node, in it a failure for each pending operation, else one test that passes.

    What went wrong is an error of the suite "gate".
    """
    report = JUnitXml("dnsmend drift")
    gate = TestSuite("gate")
    for number, sentence in enumerate(drift["errors"], 1):
        gate.add_testcase(_case(f"complete ({number})", "gate", Error(plain.line(sentence))))
    if not drift["errors"]:
        gate.add_testcase(TestCase("complete", "gate"))
    report.add_testsuite(gate)
    for node in dict.fromkeys([*drift["nodes"], *(each["node"] for each in drift["pending"])]):
        name = plain.line(node)
        suite = TestSuite(name)
        own = [each for each in drift["pending"] if each["node"] == node]
        for each in own:
            failure = Failure("would be changed", "drift")
            failure.text = "\n".join(map(plain.line, each["because"]))
            suite.add_testcase(_case(plain.line(each["operation"]), name, failure))
        if not own:
            suite.add_testcase(TestCase("as the policy wants it", name))
        report.add_testsuite(suite)
    report.update_statistics()  # type: ignore[no-untyped-call]
    made: bytes = report.tostring()  # type: ignore[no-untyped-call]
    return made.decode() + "\n"


def _case(name: str, where: str, result: Error | Failure) -> TestCase:
    case = TestCase(name, where)
    case.result = [result]
    return case
