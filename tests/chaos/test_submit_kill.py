"""The benchmark of kills around the POST, in small: twenty kills of it."""

from bench.submit_kill import PLACES, kills_of, submit_kill

KILLS = 20
IN_FLIGHT = 4


def test_every_place_is_drawn_as_often_as_the_others() -> None:
    drawn = [kill.place for kill in kills_of(seed=1, number=100, in_flight=10)]
    assert {drawn.count(place) for place in PLACES} == {16, 17}


async def test_twenty_kills_around_the_post_make_no_second_render_and_lose_none() -> None:
    outcome = await submit_kill(seed=20, kills=KILLS, in_flight=IN_FLIGHT, time_scale=0.006)
    assert outcome.broken == []
    assert outcome.generations == KILLS * IN_FLIGHT
    assert sum(outcome.deaths.values()) == KILLS
    assert set(outcome.deaths) == set(PLACES)
