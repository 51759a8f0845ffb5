"""Ranks at any size: float32 blocks give what float64 defines, in bounded memory; the benchmark that measures it."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.recall_scale import embeddings, in_child, timed
from common import ranking
from common.recall import TIE, beir_ceiling, beir_metrics, beir_scores, rank_queries

ROOT = Path(__file__).resolve().parents[1]
OFFSETS = [sign * 10.0**-power for power in range(5, 10) for sign in (1, -1)]


def slow_ranks(query_emb, gallery_emb, relevant_items) -> list[int]:
    """The definition in plain Python, one pair at a time."""
    relevant = sorted({(q, i) for q, i in relevant_items.T.tolist()})
    ranks = []
    for q, query in enumerate(query_emb.double().tolist()):
        mine = {i for p, i in relevant if p == q}
        scores = [slow_cosine(query, item) for item in gallery_emb.double().tolist()]
        wanted = sorted((scores[i] for i in mine), reverse=True)
        others = [score for i, score in enumerate(scores) if i not in mine]
        ranks += [k + sum(other >= score - 1e-6 for other in others) for k, score in enumerate(wanted, 1)]
    return ranks


def slow_cosine(a, b) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def one_each(queries: int) -> torch.Tensor:
    return torch.arange(queries).repeat(2, 1)


def some_relevant(counts, items: int) -> torch.Tensor:
    """(2, R): so many distinct random items for each query."""
    chosen = [torch.randperm(items)[:count] for count in counts]
    return torch.stack([torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), torch.cat(chosen)])


@pytest.fixture
def exact_blocks(monkeypatch) -> list:
    """One entry for every block that had to be scored in float64 from end to end."""
    blocks, count_exactly = [], ranking._count_exactly
    monkeypatch.setattr(ranking, "_count_exactly", lambda *args: blocks.append(1) or count_exactly(*args))
    return blocks


# --- equal to the definition -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 17, 64, 512, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_equals_oracle_on_random_embeddings(width, dtype):
    torch.manual_seed(width)
    items = 300 if width < 512 else 60
    query_emb, gallery_emb = torch.randn(6, width).to(dtype), torch.randn(items, width).to(dtype)
    gallery_emb[[3, 40]], query_emb[2] = 0, 0
    relevant = some_relevant([1, 2, 1, 40, 5, 33], items)
    expected = slow_ranks(query_emb, gallery_emb, relevant)
    for max_scores in (7, 500, 2000, None):
        assert rank_queries(query_emb, gallery_emb, relevant, max_scores).rank.tolist() == expected


def test_equals_oracle_on_integers():
    torch.manual_seed(0)
    query_emb, gallery_emb = torch.randint(-2, 3, (8, 4)), torch.randint(-2, 3, (200, 4))  # most scores are tied
    relevant = some_relevant([1, 1, 2, 3, 5, 8, 40, 200], 200)
    ranks = rank_queries(query_emb, gallery_emb, relevant)
    assert ranks.rank.tolist() == slow_ranks(query_emb, gallery_emb, relevant)


def near_ties(cosine: float, width: int, far: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A query (1, D), and items (G, D): a relevant one of this cosine, some whose cosine differs from the limit
    by `OFFSETS`, and far ones. float64, turned at random."""
    cosines = torch.tensor([cosine] + [cosine - TIE + x for x in OFFSETS], dtype=torch.float64)
    cosines = torch.cat([cosines, torch.linspace(-0.9, cosine - 0.01, far, dtype=torch.float64)])
    sideways = normalize(torch.randn(len(cosines), width - 1, dtype=torch.float64))
    items = torch.cat([cosines[:, None], (1 - cosines[:, None] ** 2).sqrt() * sideways], dim=1)
    turn = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q
    return turn[:1], items @ turn


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.3, 0.97])
@pytest.mark.parametrize("width", [2, 8, 64, 512])
@pytest.mark.parametrize("far", [0, 1000])
def test_near_ties_are_decided_in_float64(cosine, width, far, exact_blocks):
    torch.manual_seed(width)
    query_emb, gallery_emb = near_ties(cosine, width, far)
    ahead = sum(offset > 0 for offset in OFFSETS)
    for max_scores in (10, 600, None):
        exact_blocks.clear()
        ranks = rank_queries(query_emb, gallery_emb, torch.tensor([[0], [0]]), max_scores)
        assert ranks.best.tolist() == [1 + ahead]
    assert len(exact_blocks) == (far == 0)  # among many far items, pairs alone are scored again

    if width < 512:  # the slow oracle would take long there
        rounded = query_emb.float(), gallery_emb.float()  # moves the cosines by more than the smallest offsets
        ranks = rank_queries(*rounded, torch.tensor([[0], [0]]))
        assert ranks.best.tolist() == slow_ranks(*rounded, torch.tensor([[0], [0]]))


@pytest.mark.parametrize("noise", [0, 1e-8, 1e-6, 1e-4])
def test_equals_oracle_on_collapsed_embeddings(noise, exact_blocks):
    torch.manual_seed(0)
    point = torch.randn(32, dtype=torch.float64)
    query_emb = point + noise * torch.randn(5, 32, dtype=torch.float64)
    gallery_emb = point + noise * torch.randn(150, 32, dtype=torch.float64)
    relevant = some_relevant([1, 1, 2, 3, 50], 150)
    for max_scores in (100, None):
        ranks = rank_queries(query_emb, gallery_emb, relevant, max_scores)
        assert ranks.rank.tolist() == slow_ranks(query_emb, gallery_emb, relevant)
    assert exact_blocks


def test_many_relevant_items_beside_few(exact_blocks):
    torch.manual_seed(0)
    query_emb, gallery_emb = torch.randn(40, 16), torch.randn(400, 16)
    few = some_relevant([1] * 30 + [4, 32] * 5, 400)
    assert rank_queries(query_emb, gallery_emb, few).rank.tolist() == slow_ranks(query_emb, gallery_emb, few)
    assert not exact_blocks
    many = some_relevant([1, 50, 1, 400] * 10, 400)
    ranks = rank_queries(query_emb, gallery_emb, many, 2000)
    assert ranks.rank.tolist() == slow_ranks(query_emb, gallery_emb, many)
    assert ranks.counts.tolist() == [1, 50, 1, 400] * 10


def test_few_and_masks_of_any_size():
    torch.manual_seed(0)
    for rows, columns in [(1, 1), (3, 7), (8, 129), (16, 640)]:
        mask = torch.rand(rows, columns) < 0.005
        found = ranking._find_few(mask)
        assert (found is None) == (mask.sum() > ranking.FEW * mask.numel())
        if found is not None:
            assert torch.equal(torch.stack(found, 1), mask.nonzero())
    assert ranking._find_few(torch.ones(8, 8).bool()) is None


# --- what must not change the result -----------------------------------------------------------------------


def test_global_precision_stays_out_and_as_it_was():
    torch.manual_seed(0)
    query_emb, gallery_emb = torch.randn(200, 256), torch.randn(900, 256)
    expected = rank_queries(query_emb, gallery_emb, one_each(200)).rank
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        chosen = [backend.fp32_precision for backend in backends]
        assert torch.equal(rank_queries(query_emb, gallery_emb, one_each(200)).rank, expected)
        with pytest.raises(ValueError, match="not finite"):
            rank_queries(query_emb.log(), gallery_emb, one_each(200))
        assert [backend.fp32_precision for backend in backends] == chosen
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_gives_the_same_ranks():
    torch.manual_seed(0)
    query_emb, gallery_emb = torch.randn(500, 512), torch.randn(3000, 512)
    relevant = some_relevant([1, 2, 50, 1, 5] * 100, 3000)
    expected = rank_queries(query_emb, gallery_emb, relevant)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # TF32
        with torch.autocast("cuda", dtype=torch.bfloat16):
            ranks = rank_queries(query_emb.cuda(), gallery_emb.cuda(), relevant)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(ranks.rank, expected.rank)


# --- BEIR a query ------------------------------------------------------------------------------------------


def test_beir_scores_and_ceiling_by_eye():
    gallery = torch.eye(12)
    query = gallery[:3] + 0.1 * gallery[3:6]  # query i finds item i first, i + 3 second, the others tie at 12
    relevant_items, missing = torch.tensor([[0, 0, 1], [0, 3, 4]]), torch.tensor([2, 0, 5])
    scores = beir_scores(query, gallery, relevant_items, missing)
    assert {name: values.tolist() for name, values in scores.items()} == {
        "Recall@1": [0.25, 0, 0],
        "Recall@10": [0.5, 1, 0],
        "MRR@10": [1, 0.5, 0],
    }
    assert all(values.dtype == torch.float64 for values in scores.values())
    means = {name: values.mean().item() for name, values in scores.items()}
    assert beir_metrics(query, gallery, relevant_items, missing) == {"queries": 3, **means}
    ceiling = beir_ceiling(torch.tensor([2, 1, 0]), missing)
    assert {name: values.tolist() for name, values in ceiling.items()} == {
        "Recall@1": [0.25, 1, 0],
        "Recall@10": [0.5, 1, 0],
        "MRR@10": [1, 1, 0],
    }


def test_a_perfect_ranking_reaches_the_ceiling():
    gallery = torch.eye(40)
    counts = [1, 3, 10, 25]
    relevant = some_relevant(counts, 40)
    query = torch.zeros(4, 40)
    query[relevant[0], relevant[1]] = 1
    scores, ceiling = beir_scores(query, gallery, relevant, missing=4), beir_ceiling(torch.tensor(counts), 4)
    assert set(scores) == set(ceiling)
    for name, values in ceiling.items():
        assert torch.equal(scores[name], values), name
        assert values.dtype == torch.float64


def test_ceiling_of_a_query_without_relevant_items_raises():
    with pytest.raises(ValueError, match="query 1 has no relevant item"):
        beir_ceiling(torch.tensor([1, 0]))


# --- memory ------------------------------------------------------------------------------------------------


def rank_in_pieces(kind: str) -> float:
    """MB that ranking takes beyond its input: a gallery of 60,000 x 512, which is 123 MB in float32."""
    device = torch.device("cpu")
    torch.set_num_threads(1)
    query_emb, gallery_emb, relevant = embeddings(1000, 60_000, 512, device)
    if kind == "collapsed":
        query_emb[:], gallery_emb[:] = 1, 1
        query_emb, relevant = query_emb[:500], relevant[:, :500]
    if kind == "all relevant":
        query_emb, relevant = query_emb[:2], torch.cartesian_prod(torch.arange(2), torch.arange(60_000)).T
    return timed(lambda: rank_queries(query_emb, gallery_emb, relevant, 2**20), device)[1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux's /proc")
@pytest.mark.parametrize("kind", ["spread", "collapsed", "all relevant"])
def test_memory_is_bounded(kind):
    # too little for a float32 copy of the gallery (123 MB), a float64 one (246 MB) or all scores (120 to 480 MB)
    assert in_child(rank_in_pieces, kind) < 90


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux's /proc")
def test_benchmark_prints_its_figures():
    command = [sys.executable, "benchmarks/recall_scale.py", "--sizes", "2500", "--repeats", "1", "--seconds", "0"]
    done = subprocess.run([*command, "--device", "cpu"], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode in (0, 1), done.stderr  # 1: the ratio of one noisy repeat may be too high
    figures = dict(line.split(": ") for line in done.stdout.splitlines()[2:])
    assert figures["queries_2500"] == "1024"
    names = ["ratio", "seconds", "bare_seconds", "queries", "peak_extra_mb", "naive_ratio", "naive_peak_extra_mb"]
    assert list(figures) == [f"{name}_2500" for name in names]
    assert all(float(value) > 0 for value in figures.values())
    within = float(figures["ratio_2500"]) <= 1.5 and float(figures["peak_extra_mb_2500"]) <= 512
    assert done.returncode == (0 if within else 1)
