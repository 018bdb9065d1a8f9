"""A pod that is full of page cache has room for a Labeller."""

from __future__ import annotations

from pathlib import Path

import pytest
from models import tiny_llama

from labelstream.actors import cgroup_memory
from labelstream.actors.cgroup_memory import page_cache_bytes, page_cache_counts_as_free
from labelstream.actors.label_engine import LabelEngine
from labelstream.schemas.settings import Settings

V2 = "anon 1000\nfile 900\nactive_file 600\ninactive_file 200\n"
V1 = "cache 900\nactive_file 1\ninactive_file 1\ntotal_active_file 500\ntotal_inactive_file 100\n"


def told(monkeypatch: pytest.MonkeyPatch, folder: Path, *texts: str | None) -> None:
    """Make files for a kernel's, one for each version of cgroups; None for a version that is not there."""
    files = [folder / f"memory.stat.{number}" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        if text is not None:
            file.write_text(text)
    monkeypatch.setattr(cgroup_memory, "STAT_FILES", tuple(files))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [((V2, None), 800), ((None, V1), 600), ((None, None), 0), (("anon 1000\n", None), 0), (("", None), 0)],
)
def test_page_cache_is_active_and_inactive_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, texts: tuple[str | None, ...], expected: int
):
    told(monkeypatch, tmp_path, *texts)
    assert page_cache_bytes() == expected


def test_what_this_machine_tells_can_be_read():
    assert page_cache_bytes() >= 0


def limited(monkeypatch: pytest.MonkeyPatch, limit: int | None, used: int | None) -> None:
    """Have vLLM see a cgroup of this limit, of which so much is used."""
    resources = pytest.importorskip("vllm.utils.cpu_resource_utils", reason="install labelstream[cpu] for vLLM")
    monkeypatch.setattr(resources, "get_cgroup_memory_limit", lambda: limit)
    monkeypatch.setattr(resources, "get_cgroup_memory_usage", lambda: used)


def test_page_cache_is_free_for_vllm_while_an_engine_starts_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    told(monkeypatch, tmp_path, V2)
    limited(monkeypatch, 1000, 1000)
    from vllm.utils.cpu_resource_utils import get_memory_node_info

    assert get_memory_node_info().available_memory == 0
    with page_cache_counts_as_free():
        assert get_memory_node_info().available_memory == 800
    assert get_memory_node_info().available_memory == 0


@pytest.mark.parametrize(("used", "expected"), [(None, None), (500, 0)])
def test_a_usage_that_is_not_known_stays_so_and_none_is_negative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, used: int | None, expected: int | None
):
    told(monkeypatch, tmp_path, V2)
    limited(monkeypatch, 1000, used)
    from vllm.utils import cpu_resource_utils

    with page_cache_counts_as_free():
        assert cpu_resource_utils.get_cgroup_memory_usage() == expected


def test_the_installed_vllm_asks_the_function_that_is_replaced():
    """Of a version that does not, the replacement would go unnoticed, and the fault would be back."""
    resources = pytest.importorskip("vllm.utils.cpu_resource_utils", reason="install labelstream[cpu] for vLLM")
    assert resources.get_cgroup_memory_usage.__module__ == resources.__name__
    assert "get_cgroup_memory_usage" in resources.get_memory_node_info.__code__.co_names


@pytest.mark.engine
# vLLM looks at every name of torch.distributed, some of which torch calls deprecated.
@pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning")
def test_a_labeller_starts_in_a_pod_that_is_full_of_page_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    limit = 1 << 30
    limited(monkeypatch, limit, limit)
    told(monkeypatch, tmp_path, f"active_file {limit >> 1}\n")
    folder = tiny_llama(tmp_path / "llama")
    labeller = {"model": str(folder), "dtype": "float32", "cache_gigabytes": 0.1, "max_sequences": 16}
    LabelEngine(Settings.load(labeller=labeller)).close()
