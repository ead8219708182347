"""Is the right article found? Beside PostgreSQL's full text alone, among 2,000 passages that answer nothing asked.

    python -m bench.retrieval --articles DIR

`DIR` holds `shop.articles.jsonl` and `airline.articles.jsonl` (id, title, body). Each of the two chatbots gets its own
articles and all 2,000 of `retrieval_distractors.toml`: help articles of forty other companies, fifty kinds of each, so
that whatever kind is mistaken for the right one is mistaken forty times over. Asked are the 150 questions of
`retrieval_questions.toml`, which nothing is tuned on, and, apart, the 60 of `retrieval_tuning.toml` on the demo's
articles, by which the weight of the words was chosen. `alone`: the same without the 2,000.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.stage import database

HERE = Path(__file__).parent
NAMES = ("at", "it", "go", "who", "kit")
Article = tuple[str, str, str]  # short name, title, body
Asked = tuple[str, str]  # question, short name of the article that answers it
Ranking = Callable[[Any, str], list[str]]  # shop and question -> short names, the best first


def main() -> None:
    told = argparse.ArgumentParser()
    told.add_argument("--articles", type=Path, required=True)
    told.add_argument("--models", type=Path, default=HERE.parent / "var/models")
    options = told.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(Path(folder) / "var"):
        asyncio.run(measure(options.articles, options.models))


async def measure(articles: Path, models: Path) -> None:
    from cascade.embedder import MODEL
    from cascade.embedder.serving import Embedder
    from cascade.local_models import path_of

    embedder = Embedder(path_of(MODEL, models))
    await embedder.start()
    known: dict[str, Any] = {}

    async def embed(texts: Sequence[str]) -> list[Any]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, await embedder.embed_many(new), strict=True))
        return [known[text] for text in texts]

    try:
        for title, companies in (("150 questions", written(articles)), ("60 for tuning", tuning())):
            for alone in (False, True):
                await compare(f"{title}{', alone' if alone else ''}", companies, embed, alone)
    finally:
        await embedder.close()


async def compare(title: str, companies: dict[str, tuple[list[Article], list[Asked]]], embed: Any, alone: bool) -> None:
    from asgiref.sync import sync_to_async

    places: dict[str, list[int]] = {}
    took: list[float] = []
    for name, (articles, asked) in companies.items():
        shop = await sync_to_async(open_with)(
            f"{name}-{len(took)}-{alone}", articles + ([] if alone else distractors())
        )
        await index(shop, embed)
        vectors = await embed([question for question, _ in asked])
        found = await sync_to_async(ask_all)(shop, asked, vectors, took)
        for ranking, each in found.items():
            places.setdefault(ranking, []).extend(each)
    print(f"\n{title:34} first  among three   n={len(next(iter(places.values())))}")
    for ranking, each in places.items():
        first, three = (sum(place < most for place in each) / len(each) for most in (1, 3))
        print(f"  {ranking:32} {first:5.1%}  {three:5.1%}")
    print(f"  one search takes {1000 * median(took):.0f} ms")


async def index(shop: Any, embed: Any) -> None:
    from cascade import knowledge

    await knowledge.index(shop.tenant_id, shop.chatbot_id, embed)


def ask_all(shop: Any, asked: list[Asked], vectors: Sequence[Any], took: list[float]) -> dict[str, list[int]]:
    """The place of the right article for each question, from 0, by each way of ranking."""
    from cascade import knowledge

    def ours(question: str, vector: Any) -> list[str]:
        began = time.perf_counter()
        found = knowledge.search(shop.tenant_id, shop.chatbot_id, question, vector, most=50)
        took.append(time.perf_counter() - began)
        return [each.slug for each in found]

    ways: dict[str, Callable[[str, Any], list[str]]] = {
        "PostgreSQL full text alone": lambda question, _: by_full_text(shop, question),
        "words alone, weighed": lambda question, _: ours(question, None),
        "vectors alone": lambda _, vector: by_vector(shop, vector),
        "both, their ranks fused": lambda question, vector: by_ranks(ours(question, None), by_vector(shop, vector)),
        "both, as served": ours,
    }
    return {
        way: [place(rank(question, vector), right) for (question, right), vector in zip(asked, vectors, strict=True)]
        for way, rank in ways.items()
    }


def place(found: Iterable[str], right: str) -> int:
    articles = list(dict.fromkeys(found))
    return articles.index(right) if right in articles else 10_000


def by_full_text(shop: Any, question: str) -> list[str]:
    """As one would write it first: any of the question's words, ts_rank."""
    from django.contrib.postgres.search import SearchQuery, SearchRank
    from django.db.models import F

    from accounts.tenancy import in_tenant
    from cascade.models import Passage

    words = "".join(letter if letter.isalnum() else " " for letter in question).split()
    query = SearchQuery(" | ".join(words), config="english", search_type="raw")
    with in_tenant(shop.tenant_id):
        rows = Passage.objects.filter(words=query).annotate(rank=SearchRank(F("words"), query)).order_by("-rank", "id")
        return list(rows.values_list("article__slug", flat=True)[:50])


def by_vector(shop: Any, vector: Any) -> list[str]:
    from pgvector.django import CosineDistance

    from accounts.tenancy import in_tenant
    from cascade.models import Passage

    with in_tenant(shop.tenant_id):
        rows = Passage.objects.annotate(distance=CosineDistance("embedding", list(vector))).order_by("distance")
        return list(rows.values_list("article__slug", flat=True)[:50])


def by_ranks(*orders: list[str]) -> list[str]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), k = 60."""
    articles = {slug for order in orders for slug in order}
    total = {slug: sum(1 / (61 + order.index(slug)) for order in orders if slug in order) for slug in articles}
    return sorted(articles, key=lambda slug: -total[slug])


# --- what is asked, of what -----------------------------------------------------------------------


def open_with(name: str, articles: list[Article]) -> Any:
    from accounts.tenancy import in_tenant
    from cascade.models import Article as Row
    from tests.cast import open_shop

    shop = open_shop(name.lower(), "http://127.0.0.1:1")
    with in_tenant(shop.tenant_id):
        Row.objects.all().delete()
        tenant = {"tenant_id": shop.tenant_id, "chatbot_id": shop.chatbot_id}
        Row.objects.bulk_create(Row(**tenant, slug=slug, title=title, body=body) for slug, title, body in articles)
    return shop


def written(folder: Path) -> dict[str, tuple[list[Article], list[Asked]]]:
    questions = tomllib.loads((HERE / "retrieval_questions.toml").read_text())["question"]
    found = {}
    for company in ("shop", "airline"):
        rows = map(json.loads, (folder / f"{company}.articles.jsonl").read_text().splitlines())
        articles = [(row["id"], row["title"], row["body"]) for row in rows]
        found[company] = (articles, [(q["text"], q["article"]) for q in questions if q["company"] == company])
    return found


def tuning() -> dict[str, tuple[list[Article], list[Asked]]]:
    told = tomllib.loads((HERE.parent / "chatbackend/demo/articles.toml").read_text())
    questions = tomllib.loads((HERE / "retrieval_tuning.toml").read_text())["questions"]
    articles = [(slug, article["title"], article["body"].strip()) for slug, article in told.items()]
    return {"lamps": (articles, [(text, slug) for slug, texts in questions.items() for text in texts])}


def distractors() -> list[Article]:
    told = tomllib.loads((HERE / "retrieval_distractors.toml").read_text())
    found = []
    for company in told["companies"]:
        names = dict(zip(NAMES, company, strict=True))
        names["At"] = names["at"][0].upper() + names["at"][1:]
        for title, body in told["articles"].items():
            found.append((f"distractor-{len(found)}", title.format(**names), body.format(**names)))
    return found


if __name__ == "__main__":
    main()
