"""The verbs for budgets, on a database alone."""

from pathlib import Path

from tests.cli.processes import bare_environment, run


def test_budgets_are_set_with_a_warning_shown_and_removed(database_url: str, tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=database_url)

    def budget(*words: str) -> tuple[int, dict[str, object], str]:
        finished = run("budget", *words, "--json", env=env, cwd=tmp_path)
        return finished.code, finished.document, finished.stderr

    code, document, told = budget("set", "vendor", "apixoo", "day", "2.50", "--time-zone", "Asia/Tokyo")
    assert (code, document["time_zone"]) == (0, "Asia/Tokyo")
    assert "'apixo'" in str(document["warning"])
    assert str(document["warning"]) in told
    assert budget("set", "vendor", "apixo", "total", "1")[1]["warning"] is None
    assert "No generation" in str(budget("set", "tenant", "nobody", "total", "1")[1]["warning"])
    code, document, _ = budget("set", "vendor", "apixo", "total", "7", "--time-zone", "Asia/Tokio")
    assert code == 2
    assert "Asia/Tokyo" in str(document["error"])

    shown = run("budget", "show", env=env, cwd=tmp_path).stdout
    assert [line.split()[1] for line in shown.splitlines()] == ["key", "nobody", "apixo", "apixoo"]
    assert "Asia/Tokyo" in shown
    assert "$7.00" not in shown
    assert budget("remove", "vendor", "apixoo", "day")[0] == 0
    code, document, _ = budget("remove", "vendor", "apixoo", "day")
    assert code == 2
    assert "no day budget of vendor apixoo" in str(document["error"])
