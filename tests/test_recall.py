"""common/recall.py: matrices to check by eye, a slow oracle in plain Python, ranx, and simulated chance."""

import math
from statistics import mean, median, stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from common.recall import TIE, beir_metrics, chance, metrics, rank_queries, relevant_ranks

METRICS = {"R@1", "R@5", "R@10", "median_rank", "mean_rank", "MRR", "mAP"}


def ranks_by_query(ranks) -> list[list[int]]:
    return [x.tolist() for x in ranks.rank.split(ranks.counts.tolist())]


def pairs(relevant) -> torch.Tensor:
    """(Q, G) bool -> (2, R)"""
    return torch.as_tensor(relevant).nonzero().T


def ranked(scores, relevant) -> list[list[int]]:
    return ranks_by_query(relevant_ranks(torch.tensor(scores), torch.tensor(relevant).bool()))


# --- the oracle: one score, one item and one query at a time -----------------------------------------------


def slow_ranks(scores: list[float], relevant: list[bool]) -> list[int]:
    wanted = sorted((s for s, r in zip(scores, relevant, strict=True) if r), reverse=True)
    others = [s for s, r in zip(scores, relevant, strict=True) if not r]
    return [k + sum(other >= score - 1e-6 for other in others) for k, score in enumerate(wanted, 1)]


def slow_metrics(sim: list[list[float]], relevant: list[list[bool]]) -> dict[str, float]:
    ranks = [slow_ranks(s, r) for s, r in zip(sim, relevant, strict=True)]
    best = [min(r) for r in ranks]
    return {
        **{f"R@{k}": 100 * mean(b <= k for b in best) for k in (1, 5, 10)},
        "median_rank": median(best),
        "mean_rank": mean(best),
        "MRR": mean(1 / b for b in best),
        "mAP": mean(mean(k / rank for k, rank in enumerate(r, 1)) for r in ranks),
    }


def slow_beir(sim, relevant, missing: list[int]) -> dict[str, float]:
    recall, rr = {1: [], 10: []}, []
    for scores, mine, lost in zip(sim, relevant, missing, strict=True):
        ranks = slow_ranks(scores, mine)
        for k, values in recall.items():
            values.append(len([r for r in ranks if r <= k]) / (sum(mine) + lost))
        rr.append(1 / ranks[0] if ranks and ranks[0] <= 10 else 0)
    return {"queries": len(sim), **{f"Recall@{k}": mean(v) for k, v in recall.items()}, "MRR@10": mean(rr)}


def slow_cosine(a: list[int], b: list[int]) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


SCORE = st.sampled_from([-1.0, 0.0, 0.5, 0.5 + 7e-7, 0.5 - 7e-7, 0.5 + 2e-6, 1.0]) | st.floats(-1, 1)


@st.composite
def problems(draw):
    """A score matrix full of ties and near-ties, and at least one relevant item a query."""
    queries, items = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    sim = [draw(st.lists(SCORE, min_size=items, max_size=items)) for _ in range(queries)]
    return sim, draw(relevances(queries, items))


@st.composite
def relevances(draw, queries, items, least=1):
    chosen = [draw(st.sets(st.integers(0, items - 1), min_size=least)) for _ in range(queries)]
    return [[i in mine for i in range(items)] for mine in chosen]


@st.composite
def embeddings(draw, least=1):
    """Small integer vectors: many scores are equal, many are zero vectors, and the others differ by far more
    than TIE. With the relevance and the most scores to hold."""
    vector = st.just((0, 0, 0)) | st.tuples(*[st.integers(-2, 2)] * 3)
    query = draw(st.lists(vector, min_size=1, max_size=6))
    gallery = draw(st.lists(vector, min_size=1, max_size=14))
    return query, gallery, draw(relevances(len(query), len(gallery), least)), draw(st.integers(1, 90))


# --- matrices to check by eye ------------------------------------------------------------------------------


def test_one_relevant_item_a_query():
    sim = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.7, 0.6], [0.3, 0.2, 0.1]])
    ranks = relevant_ranks(sim, torch.eye(3).bool())
    assert ranks.best.tolist() == [1, 2, 3]
    mrr = (1 + 1 / 2 + 1 / 3) / 3
    assert metrics(ranks) == pytest.approx(
        {"R@1": 100 / 3, "R@5": 100, "R@10": 100, "median_rank": 2, "mean_rank": 2, "MRR": mrr, "mAP": mrr}
    )


def test_every_relevant_item_has_its_rank():
    # order: irrelevant, RELEVANT, RELEVANT, irrelevant, RELEVANT
    ranks = relevant_ranks(torch.tensor([[0.1, 0.9, 0.7, 0.3, 0.8]]), torch.tensor([[1, 0, 1, 0, 1]]).bool())
    assert ranks_by_query(ranks) == [[2, 3, 5]]
    assert ranks.best.tolist() == [2]
    assert metrics(ranks)["mAP"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert metrics(ranks)["MRR"] == 0.5


def test_queries_with_different_numbers_of_relevant_items():
    relevant = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()
    ranks = relevant_ranks(torch.tensor([[4.0, 3, 2, 1]] * 3), relevant)
    assert ranks_by_query(ranks) == [[2, 4], [1, 2, 3, 4], [4]]
    assert ranks.query.tolist() == [0, 0, 1, 1, 1, 1, 2]
    assert ranks.average_precision.tolist() == [0.5, 1, 0.25]


def test_ties_count_against_the_model():
    assert ranked([[0.5, 0.5, 0.5, 0.1]], [[1, 0, 0, 0]]) == [[3]]
    # relevant items do not push each other back, but equal irrelevant ones go before both
    assert ranked([[0.5, 0.5, 0.5, 0.5]], [[1, 1, 0, 0]]) == [[3, 4]]


@pytest.mark.parametrize(("gap", "rank"), [(5e-7, 2), (1e-6, 2), (-5e-7, 2), (2e-6, 1), (-2e-6, 2)])
def test_nearly_equal_scores_are_tied(gap, rank):
    scores = torch.tensor([[0, -gap]], dtype=torch.float64)
    assert relevant_ranks(scores, torch.tensor([[True, False]])).best.tolist() == [rank]


def test_all_equal_scores_have_recall_0():
    for value in (0.0, 1.0, -3.5):
        result = metrics(relevant_ranks(torch.full((12, 12), value), torch.eye(12).bool()))
        assert (result["R@1"], result["R@5"], result["R@10"], result["median_rank"]) == (0, 0, 0, 12)


def test_everything_relevant_is_perfect_even_when_collapsed():
    result = metrics(relevant_ranks(torch.zeros(3, 4), torch.ones(3, 4).bool()))
    assert all(value == (100 if name.startswith("R@") else 1) for name, value in result.items())


@pytest.mark.parametrize("noise", [0, 1e-7])
@pytest.mark.parametrize("max_scores", [7, 2**22])
def test_a_collapsed_tower_has_recall_0(noise, max_scores):
    torch.manual_seed(0)
    point = torch.randn(512)
    image_emb, text_emb = point + noise * torch.randn(40, 512), point + noise * torch.randn(40, 512)
    result = metrics(rank_queries(image_emb, text_emb, torch.arange(40).repeat(2, 1), max_scores))
    assert (result["R@1"], result["R@10"], result["mean_rank"]) == (0, 0, 40)


def test_smallest_sizes():
    one = torch.ones(1, 1)
    assert metrics(relevant_ranks(one, one.bool()))["R@1"] == 100
    assert rank_queries(one, one, torch.zeros(2, 1).long()).best.tolist() == [1]  # gallery of one
    assert rank_queries(one, torch.tensor([[-1.0], [1], [2]]), torch.tensor([[0], [0]])).best.tolist() == [3]


# --- against the oracle ------------------------------------------------------------------------------------


@given(problems())
@settings(deadline=None)
def test_matrix_equals_oracle(problem):
    sim, relevant = problem
    ranks = relevant_ranks(torch.tensor(sim, dtype=torch.float64), torch.tensor(relevant))
    assert ranks_by_query(ranks) == [slow_ranks(s, r) for s, r in zip(sim, relevant, strict=True)]
    result = metrics(ranks)
    assert set(result) == METRICS
    assert result == pytest.approx(slow_metrics(sim, relevant), rel=1e-12)


@given(embeddings())
@settings(deadline=None)
def test_embeddings_equal_oracle_both_ways(problem):
    a, b, relevant, max_scores = problem
    back = [list(column) for column in zip(*relevant, strict=True)]
    for query, gallery, mine in ((a, b, relevant), (b, a, back)):
        kept = [i for i, row in enumerate(mine) if any(row)]  # the way back, some have no relevant item
        query, mine = [query[i] for i in kept], [mine[i] for i in kept]
        sim = [[slow_cosine(x, y) for y in gallery] for x in query]
        ranks = rank_queries(torch.tensor(query), torch.tensor(gallery), pairs(mine), max_scores)
        assert ranks_by_query(ranks) == [slow_ranks(s, r) for s, r in zip(sim, mine, strict=True)]
        assert metrics(ranks) == pytest.approx(slow_metrics(sim, mine), rel=1e-12)


@given(embeddings(least=0), st.data())
@settings(deadline=None)
def test_beir_equals_oracle(problem, data):
    query, gallery, relevant, max_scores = problem
    missing = [data.draw(st.integers(0 if any(row) else 1, 3)) for row in relevant]
    sim = [[slow_cosine(x, y) for y in gallery] for x in query]
    result = beir_metrics(
        torch.tensor(query).float(), torch.tensor(gallery).float(), pairs(relevant), torch.tensor(missing), max_scores
    )
    assert result == pytest.approx(slow_beir(sim, relevant, missing), rel=1e-12)


def test_beir_by_eye():
    gallery = torch.eye(12)
    query = gallery[:3] + 0.1 * gallery[3:6]  # query i finds item i first, i + 3 second, the others tie at 12
    relevant_items = torch.tensor([[0, 0, 1], [0, 3, 4]])  # nothing of query 2's is in the gallery
    result = beir_metrics(query, gallery, relevant_items, missing=torch.tensor([2, 0, 5]))
    assert result == pytest.approx(
        {"queries": 3, "Recall@1": (1 / 4) / 3, "Recall@10": (2 / 4 + 1) / 3, "MRR@10": (1 + 1 / 2) / 3}
    )
    tied = beir_metrics(query[:1], gallery, torch.tensor([[0], [11]]))
    assert (tied["Recall@10"], tied["MRR@10"]) == (0, 0)
    nothing = beir_metrics(query, gallery, torch.empty(2, 0).long(), missing=1)
    assert nothing == {"queries": 3, "Recall@1": 0, "Recall@10": 0, "MRR@10": 0}


# --- chunks and invariances --------------------------------------------------------------------------------


@pytest.fixture
def catalogue():
    """30 queries, 47 items, 1 to 5 relevant ones each: not a multiple of any chunk below."""
    torch.manual_seed(0)
    relevant = torch.rand(30, 47).argsort(1) < torch.randint(1, 6, (30, 1))
    return torch.randn(30, 8), torch.randn(47, 8), relevant


def cosine(query_emb, gallery_emb) -> torch.Tensor:
    return torch.cosine_similarity(query_emb.double()[:, None], gallery_emb.double()[None], dim=2)


class LargestTensor(TorchFunctionMode):
    """Remembers the most elements that any torch function returned in one tensor."""

    elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("max_scores", [1, 5, 46, 47, 48, 94, 500, 30 * 47, 2**22])
def test_chunks_do_not_change_the_ranks(catalogue, max_scores):
    query_emb, gallery_emb, relevant = catalogue
    whole = relevant_ranks(cosine(query_emb, gallery_emb), relevant)
    ranks = rank_queries(query_emb, gallery_emb, pairs(relevant), max_scores)
    assert torch.equal(ranks.rank, whole.rank)
    assert torch.equal(ranks.counts, whole.counts)


@pytest.mark.parametrize("max_scores", [10, 50, 100, 500])
def test_never_holds_more_than_max_scores(max_scores):
    torch.manual_seed(0)
    size = 60
    with LargestTensor() as largest:
        rank_queries(torch.randn(size, 1), torch.randn(size, 1), torch.arange(size).repeat(2, 1), max_scores)
    assert largest.elements <= max(max_scores, 2 * size)  # the pairs themselves are 2 x 60


def test_scores_relevant_pairs_in_pieces_too():
    with LargestTensor() as largest:
        rank_queries(torch.randn(2, 8), torch.randn(60, 8), pairs(torch.ones(2, 60)), max_scores=500)
    assert largest.elements <= 500  # the 120 pairs at once would multiply out 120 x 8


def test_zero_vectors_score_0_with_everything():
    gallery = torch.tensor([[1.0], [0], [-1]])
    assert rank_queries(torch.zeros(1, 1), gallery, torch.tensor([[0], [0]])).best.tolist() == [3]
    assert rank_queries(torch.ones(1, 1), gallery, torch.tensor([[0], [2]])).best.tolist() == [3]
    assert rank_queries(torch.ones(1, 1), gallery, torch.tensor([[0], [1]])).best.tolist() == [2]


def test_relevance_may_come_in_any_order_and_twice(catalogue):
    query_emb, gallery_emb, relevant = catalogue
    shuffled = pairs(relevant).repeat(1, 2)
    shuffled = shuffled[:, torch.randperm(shuffled.shape[1])]
    expected = rank_queries(query_emb, gallery_emb, pairs(relevant))
    assert torch.equal(rank_queries(query_emb, gallery_emb, shuffled).rank, expected.rank)


def test_scale_rotation_and_order_do_not_matter(catalogue):
    query_emb, gallery_emb, relevant = catalogue
    expected = ranks_by_query(rank_queries(query_emb, gallery_emb, pairs(relevant)))
    lengths = 10 ** torch.linspace(-20, 20, 47)[:, None]
    scaled = rank_queries(1e-15 * query_emb, gallery_emb * lengths, pairs(relevant))
    assert ranks_by_query(scaled) == expected
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    rotated = rank_queries(query_emb @ rotation, gallery_emb @ rotation, pairs(relevant))
    assert ranks_by_query(rotated) == expected
    q, g = torch.randperm(30), torch.randperm(47)
    permuted = rank_queries(query_emb[q], gallery_emb[g], pairs(relevant[q][:, g]), 100)
    assert ranks_by_query(permuted) == [expected[i] for i in q]


def test_autocast_and_gradients_stay_out(catalogue):
    query_emb, gallery_emb, relevant = catalogue
    expected = rank_queries(query_emb, gallery_emb, pairs(relevant)).rank
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ranks = rank_queries(query_emb.requires_grad_(), gallery_emb, pairs(relevant))
    assert torch.equal(ranks.rank, expected)


# --- other people's figures --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unsafe cast")
def test_agrees_with_ranx_where_nothing_is_tied(catalogue):
    ranx = pytest.importorskip("ranx")
    query_emb, gallery_emb, relevant = catalogue
    sim = cosine(query_emb, gallery_emb)
    assert sim.sort(1).values.diff(dim=1).min() > TIE
    run = ranx.Run({f"q{i}": {f"d{j}": s for j, s in enumerate(row)} for i, row in enumerate(sim.tolist())})

    def judged(missing: int) -> "ranx.Qrels":
        return ranx.Qrels(
            {
                f"q{i}": {f"d{j}": 1 for j in row.nonzero().flatten().tolist()}
                | {f"lost{j}": 1 for j in range(missing)}
                for i, row in enumerate(relevant)
            }
        )

    theirs = ranx.evaluate(judged(0), run, ["hit_rate@1", "hit_rate@5", "hit_rate@10", "mrr", "map"])
    ours = metrics(rank_queries(query_emb, gallery_emb, pairs(relevant)))
    for k in (1, 5, 10):
        assert ours[f"R@{k}"] == pytest.approx(100 * theirs[f"hit_rate@{k}"])
    assert (ours["MRR"], ours["mAP"]) == pytest.approx((theirs["mrr"], theirs["map"]))

    theirs = ranx.evaluate(judged(2), run, ["recall@1", "recall@10", "mrr@10"])
    ours = beir_metrics(query_emb, gallery_emb, pairs(relevant), missing=2)
    assert (ours["Recall@1"], ours["Recall@10"], ours["MRR@10"]) == pytest.approx(
        (theirs["recall@1"], theirs["recall@10"], theirs["mrr@10"])
    )


# --- chance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 8, 60])
def test_chance_equals_simulation(size):
    torch.manual_seed(0)
    counts = torch.tensor([1, 1, 2, 3]) if size > 3 else torch.tensor([1, 2, 3, 3])
    relevant = (torch.arange(size) < counts[:, None]).repeat(500, 1)  # 2,000 queries, ten times
    sims = torch.rand(10, *relevant.shape, dtype=torch.float64)
    runs = [metrics(relevant_ranks(sim, relevant)) for sim in sims]
    expected = chance(counts, size)
    assert set(expected) == METRICS - {"median_rank"}
    for name, value in expected.items():
        found = [run[name] for run in runs]
        assert mean(found) == pytest.approx(value, abs=4 * stdev(found) / math.sqrt(10) + 1e-9), name


def test_chance_equals_counting():
    for size, r in [(1, 1), (4, 4), (9, 8), (12, 1), (12, 5), (40_000, 1), (40_000, 3)]:
        expected = chance(torch.tensor([r]), size)
        for k in (1, 5, 10):
            hit = 1 - math.comb(size - r, min(k, size)) / math.comb(size, min(k, size))
            assert expected[f"R@{k}"] == pytest.approx(100 * hit, rel=1e-10)
        best = [math.comb(size - j, r - 1) / math.comb(size, r) for j in range(1, size + 1)]
        assert expected["MRR"] == pytest.approx(sum(p / j for j, p in enumerate(best, 1)), rel=1e-9)
        assert expected["mean_rank"] == pytest.approx(sum(p * j for j, p in enumerate(best, 1)), rel=1e-9)


def test_chance_is_averaged_over_queries():
    one, three = chance(torch.tensor([1]), 20), chance(torch.tensor([3]), 20)
    both = chance(torch.tensor([1, 3]), 20)
    assert both == pytest.approx({name: (one[name] + three[name]) / 2 for name in one})


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_raise(bad):
    sim = torch.zeros(4, 4)
    sim[2, 1] = bad
    with pytest.raises(ValueError, match="sim of query 2 is not finite"):
        relevant_ranks(sim, torch.eye(4).bool())
    with pytest.raises(ValueError, match="query_emb row 2 is not finite"):
        rank_queries(sim, torch.ones(4, 4), torch.arange(4).repeat(2, 1))
    with pytest.raises(ValueError, match="gallery_emb row 2 is not finite"):
        rank_queries(torch.ones(4, 4), sim, torch.arange(4).repeat(2, 1))


def test_queries_without_relevant_items_raise():
    relevant = torch.eye(4).bool()
    relevant[1:3] = False
    with pytest.raises(ValueError, match="query 1 has no relevant item"):
        relevant_ranks(torch.zeros(4, 4), relevant)
    with pytest.raises(ValueError, match="query 1 has no relevant item"):
        rank_queries(torch.ones(4, 2), torch.ones(4, 2), pairs(relevant))
    with pytest.raises(ValueError, match="query 2 has no relevant item"):
        beir_metrics(torch.ones(4, 2), torch.ones(4, 2), pairs(relevant), missing=torch.tensor([0, 1, 0, 0]))
    with pytest.raises(ValueError, match="query 0 has no relevant item"):  # an empty gallery
        rank_queries(torch.ones(1, 2), torch.ones(0, 2), torch.empty(2, 0).long())
    with pytest.raises(ValueError, match="at least one query"):
        relevant_ranks(torch.zeros(0, 4), torch.zeros(0, 4).bool())


def test_inputs_that_do_not_fit_raise():
    emb = torch.ones(3, 2)
    with pytest.raises(ValueError, match="same shape"):
        relevant_ranks(torch.zeros(3, 3), torch.eye(4).bool())
    with pytest.raises(ValueError, match="bool"):
        relevant_ranks(torch.zeros(3, 3), torch.eye(3))
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 5\)"):
        rank_queries(emb, torch.ones(3, 5), torch.arange(3).repeat(2, 1))
    with pytest.raises(ValueError, match="query 2 with item 3"):
        rank_queries(emb, emb, torch.tensor([[0, 1, 2], [0, 1, 3]]))
    with pytest.raises(ValueError, match="relevant_items"):
        rank_queries(emb, emb, torch.arange(3))
    with pytest.raises(ValueError, match="max_scores"):
        rank_queries(emb, emb, torch.arange(3).repeat(2, 1), max_scores=0)
    for count in (0, 5):
        with pytest.raises(ValueError, match=r"1\.\.4"):
            chance(torch.tensor([1, count]), 4)
