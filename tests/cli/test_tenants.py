"""The verbs for tenants, on a database alone."""

from pathlib import Path

from tests.cli.processes import bare_environment, run


def test_a_tenants_zone_is_set_and_shown(database_url: str, tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=database_url)
    done = run("tenant", "zone", "acme", "Europe/Berlin", "--json", env=env, cwd=tmp_path)
    assert (done.code, done.document["time_zone"]) == (0, "Europe/Berlin")
    assert "No generation has the tenant 'acme'" in str(done.document["warning"])
    wrong = run("tenant", "zone", "acme", "Berlin", "--json", env=env, cwd=tmp_path)
    assert wrong.code == 2
    assert "no time zone 'Berlin'" in str(wrong.document["error"])
    shown = run("tenant", "show", env=env, cwd=tmp_path).stdout
    assert shown.splitlines()[1].split() == ["acme", "Europe/Berlin", "-", "-"]
    assert run("tenant", "show", "nobody", "--json", env=env, cwd=tmp_path).document == {"tenants": []}
