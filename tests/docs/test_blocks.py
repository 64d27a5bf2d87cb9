"""The runner of pages notices what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, run

PAGE = """# A page

    not run

```sh
echo "20 of 20, run 20261122T064249Z-7dcd"
echo more
```

```text
20 of 20, run ...
more
```

```python
neither = "is this"
```

```sh
false  # exits with 1
```
"""


def written(folder: Path, text: str) -> Path:
    (folder / "docs").mkdir()
    (folder / "docs/page.md").write_text(text)
    return folder


def test_blocks() -> None:
    first, second = blocks(PAGE)
    assert first.script.startswith("echo ") and first.code == 0 and "more" in first.shown
    assert second == Block("false  # exits with 1\n", 1, "")


def test_a_page_that_is_right(tmp_path: Path) -> None:
    assert run("page.md", written(tmp_path, PAGE)) == 2


def test_numbers_may_differ_and_words_may_not(tmp_path: Path) -> None:
    folder = written(tmp_path, PAGE.replace("20 of 20, run ...", "3 of 3, run 20261121T000000Z-ffff"))
    assert run("page.md", folder) == 2
    (folder / "docs/page.md").write_text(PAGE.replace("\nmore\n```\n\n```python", "\nless\n```\n\n```python"))
    with pytest.raises(AssertionError, match="not said: 'less'"):
        run("page.md", folder)


def test_an_exit_code_that_the_page_does_not_name(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended with 1, not 0"):
        run("page.md", written(tmp_path, PAGE.replace("  # exits with 1", "")))


def test_examples_are_replaced(tmp_path: Path) -> None:
    folder = written(tmp_path, "```sh\ntest 192.0.2.10 = 198.18.53.10\n```\n")
    assert run("page.md", folder, stand_in={"192.0.2.10": "198.18.53.10"}) == 1
