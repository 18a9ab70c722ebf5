"""I6, I12, I22: what the bucket holds, and what must not be left anywhere."""

from onetake.core.ids import recovery_id_of
from tests.chaos.evidence import Evidence


def i6(evidence: Evidence) -> list[str]:
    """Every asset of every generation is in the bucket, byte for byte, under its tenant's and its own prefix. It was
    there at any time: nothing that was ever seen in the bucket was missed later, before the sweep at the end."""
    objects = {each.key: each for each in evidence.objects}
    broken = [f"{key}: was there, and was gone later" for key in sorted(evidence.seen.vanished)]
    for generation in evidence.generations:
        if generation.status == "completed" and not generation.assets:
            broken.append(f"{generation.id}: completed without a clip")
        for asset in generation.assets:
            stored, key = objects.get(asset["key"]), asset["key"]
            if not key.startswith(f"{generation.tenant}/{generation.id}/"):
                broken.append(f"{generation.id}: {key} is not under its prefix")
            if stored is None:
                broken.append(f"{generation.id}: {key} is not there")
                continue
            is_so = (stored.sha256, stored.size_bytes, stored.content_type)
            if is_so != (asset["sha256"], asset["size_bytes"], asset["content_type"]):
                broken.append(f"{generation.id}: {key} is {is_so}")
    return broken


def i12(evidence: Evidence) -> list[str]:
    """No object was ever replaced, and after the sweep nothing lies there that nobody names or will name, but for
    clips that could not be read."""
    named = {asset["key"] for generation in evidence.generations for asset in generation.assets}
    named |= {f"{key.rpartition('/')[0]}/{name}.json" for key in named for name in ("manifest", "unverified")}
    replaced = [f"{key}: {len(etags)} versions" for key, etags in evidence.seen.etags.items() if len(etags) > 1]
    served = _served(evidence)
    rubbish = [each.key for each in evidence.objects if each.key not in named and _owner(each.key) not in served]
    return replaced + [f"{key}: named by nobody" for key in rubbish]


def _served(evidence: Evidence) -> set[str]:
    """The generations that may still name what they have stored, or keep what could not be read."""
    running = {run.workflow_id for run in evidence.runs if run.status == "running"}
    keys = {each.key for each in evidence.objects}
    unread = {_owner(key) for key in keys if key.endswith("/unverified.json")}
    unread -= {_owner(key) for key in keys if key.endswith("/manifest.json")}
    return unread | {
        f"{each.tenant}/{each.id}"
        for each in evidence.generations
        if running & {each.workflow_id, recovery_id_of(each.tenant, each.id)} or each.error_code == "asset_unverified"
    }


def _owner(key: str) -> str:
    return "/".join(key.split("/")[:2])


def i22(evidence: Evidence) -> list[str]:
    """An hour later no temporary file and no unfinished upload is left. (`evidence` is gathered as of then.)"""
    return [f"upload of {key}" for key in evidence.uploads] + [f"file {name}" for name in evidence.spool]
