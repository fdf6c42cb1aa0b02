"""What goes out to a server as lines."""

from kedge.store.elastic.node import Lines


def test_lines_that_are_encoded_already_are_not_copied() -> None:
    body = b'{"create":{}}\n{"a":1}\n'
    assert Lines().dumps(body) is body


def test_the_last_line_gets_its_end() -> None:
    assert Lines().dumps(b'{"a":1}') == b'{"a":1}\n'
    assert Lines().dumps([{"a": 1}, b"{}"]) == b'{"a":1}\n{}\n'
