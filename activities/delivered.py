"""What was delivered, as an asset, and how it differs from what was ordered."""

from onetake.core.clips import ClipFacts
from onetake.core.contracts import Asset, Notice, Plan
from onetake.core.ports import Stored, VendorStatus

CONTENT_TYPE = "video/mp4"
LEAST_FPS = 15.0  # no document names a rate, and no model of the family has ever rendered fewer
RATIO_TOLERANCE = 0.02


def asset_of(stored: Stored, facts: ClipFacts) -> Asset:
    return Asset(
        key=stored.key,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        content_type=CONTENT_TYPE,
        duration_s=round(facts.duration_s, 3),
        width=facts.width,
        height=facts.height,
        fps=round(facts.fps, 3),
        codec=facts.codec,
        has_audio=facts.has_audio,
    )


def about_cost(status: VendorStatus) -> list[Notice]:
    if not status.cost_unusable:
        return []
    return [Notice(code="vendor_cost_unusable", message="the vendor's figure makes no sense: the pinned price counts")]


def no_clip_at(number: int, links: int) -> Notice:
    """What is left out beside the clips: a cover picture, say."""
    return Notice(code="link_not_video", message=f"link {number + 1} of {links} is no playable clip and is left out")


def differences(plan: Plan, facts: ClipFacts) -> list[Notice]:
    """What differs from the request: the clip is kept, and its owner is told."""
    notices: list[Notice] = []
    if abs(facts.duration_s - plan.duration_s) > plan.duration_tolerance_s:
        notices.append(
            Notice(code="duration_differs", message=f"{facts.duration_s:.2f} s instead of {plan.duration_s} s")
        )
    if plan.width and plan.height and (facts.width, facts.height) != (plan.width, plan.height):
        pixels = f"{facts.width}x{facts.height} instead of {plan.width}x{plan.height}"
        notices.append(Notice(code="pixels_differ", message=pixels))
    elif plan.aspect_ratio and not plan.width and not _has_ratio(facts, plan.aspect_ratio):
        shape = f"{facts.width}x{facts.height} is not {plan.aspect_ratio}"
        notices.append(Notice(code="aspect_ratio_differs", message=shape))
    if facts.fps < LEAST_FPS:
        notices.append(Notice(code="frames_missing", message=f"{facts.fps:.1f} frames a second"))
    if plan.sound and not facts.has_audio:
        notices.append(Notice(code="sound_missing", message="the clip has no sound track"))
    return notices


def _has_ratio(facts: ClipFacts, ratio: str) -> bool:
    width, _, height = ratio.partition(":")
    wanted = float(width) / float(height)
    return abs(facts.width / facts.height - wanted) <= RATIO_TOLERANCE * wanted
