"""The index of a chatbot's articles is whole or the old one; the search finds what was meant, and nobody else's."""

from __future__ import annotations

import hashlib
from array import array

import pytest
from asgiref.sync import async_to_sync

from accounts.auth import create_widget
from accounts.tenancy import in_tenant
from cascade import knowledge
from cascade.embedder import SIZE
from cascade.models import Article, Chatbot, Passage
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")


def vector(text: str) -> array[float]:
    """Of bags of words: texts that share words lie close together."""
    found = [0.0] * SIZE
    for word in text.lower().replace(".", " ").replace("?", " ").split():
        found[int(hashlib.sha256(word.encode()).hexdigest(), 16) % SIZE] += 1
    length = sum(each * each for each in found) ** 0.5 or 1.0
    return array("f", [each / length for each in found])


class Embedding:
    """Vectors by `vector`, with a record of what was asked; the text that `fails` says gets none."""

    def __init__(self, fails: str = "") -> None:
        self.asked: list[str] = []
        self.fails = fails

    async def __call__(self, texts):
        self.asked += texts
        return [None if self.fails and self.fails in text else vector(text) for text in texts]


def index(shop, embed=None) -> Embedding:
    embed = embed or Embedding()
    async_to_sync(knowledge.index)(shop.tenant_id, shop.chatbot_id, embed)
    return embed


def write(shop, slug: str, title: str, body: str, chatbot_id=None) -> None:
    with in_tenant(shop.tenant_id):
        Article.objects.update_or_create(
            tenant_id=shop.tenant_id, chatbot_id=chatbot_id or shop.chatbot_id, slug=slug,
            defaults={"title": title, "body": body},
        )  # fmt: skip


def found(shop, question: str, **more) -> list[str]:
    return [each.slug for each in knowledge.search(shop.tenant_id, shop.chatbot_id, question, vector(question), **more)]


def version(shop) -> int:
    with in_tenant(shop.tenant_id):
        return Chatbot.objects.get(id=shop.chatbot_id).knowledge_version


@pytest.fixture
def alice():
    shop = open_shop("alice", "http://127.0.0.1:1")
    write(shop, "gift-cards", "Gift cards", "A gift card is valid for 3 years.")
    write(shop, "delivery", "Delivery", "A parcel arrives after 3 to 5 business days.")
    return shop


def test_the_passage_that_shares_words_or_meaning_comes_first(alice):
    index(alice)
    assert found(alice, "When does my parcel arrive?")[0] == "delivery"
    by_words = knowledge.search(alice.tenant_id, alice.chatbot_id, "Are gift cards valid for long?", None)
    assert by_words[0].slug == "gift-cards"
    assert by_words[0].similarity is None


def test_an_article_that_has_not_changed_is_not_embedded_again(alice):
    index(alice)
    write(alice, "delivery", "Delivery", "A parcel arrives tomorrow.")
    assert index(alice).asked == ["Delivery\nA parcel arrives tomorrow."]
    assert index(alice).asked == []


def test_the_old_index_serves_until_the_new_one_is_whole(alice):
    index(alice)
    before = version(alice)
    for number in range(40):
        write(alice, f"new-{number}", f"New {number}", "Nothing.")
    write(alice, "delivery", "Delivery", "A drone brings it.")
    write(alice, "last", "Last", "This one fails.")
    with pytest.raises(knowledge.NotEmbedded):
        index(alice, Embedding(fails="This one fails."))
    progress = knowledge.progress(chatbot_of(alice))
    assert (progress.searched, progress.articles) == (2, 44)
    assert progress.made > 2
    texts = {each.text for each in knowledge.search(alice.tenant_id, alice.chatbot_id, "New delivery", None)}
    assert "A parcel arrives after 3 to 5 business days." in texts
    assert not texts & {"Nothing.", "A drone brings it."}
    assert version(alice) == before
    index(alice)
    assert found(alice, "Does a drone bring it?")[0] == "delivery"
    assert version(alice) == before + 1
    assert knowledge.progress(chatbot_of(alice)).whole


def chatbot_of(shop) -> Chatbot:
    with in_tenant(shop.tenant_id):
        return Chatbot.objects.get(id=shop.chatbot_id)


def test_an_article_tells_since_which_version_it_is_searched_as_it_is(alice):
    def since() -> dict[str, int | None]:
        with in_tenant(alice.tenant_id):
            return dict(Article.objects.exclude(slug="returns").values_list("slug", "searched_from"))

    assert since() == {"gift-cards": None, "delivery": None}
    index(alice)
    assert since() == {"gift-cards": 1, "delivery": 1}
    write(alice, "delivery", "Delivery", "A parcel arrives tomorrow.")
    index(alice)
    assert since() == {"gift-cards": 1, "delivery": version(alice)}


def test_an_index_that_died_half_way_goes_on_where_it_stood(alice):
    for number in range(60):
        write(alice, f"new-{number}", f"New {number}", "Nothing.")
    write(alice, "z-last", "Last", "This one fails.")
    with pytest.raises(knowledge.NotEmbedded):
        index(alice, Embedding(fails="This one fails."))
    again = index(alice)
    assert 0 < len(again.asked) < 60
    assert knowledge.progress(chatbot_of(alice)).whole


def test_an_article_that_changes_while_it_is_indexed_is_searched_as_it_was_until_it_is_made_again(alice):
    index(alice)

    async def meddle(texts):
        from accounts.tenancy import in_db

        await in_db(write)(alice, "delivery", "Delivery", "Changed twice.")
        return [vector(text) for text in texts]

    write(alice, "delivery", "Delivery", "Changed once.")
    index(alice, meddle)
    texts = {each.text for each in knowledge.search(alice.tenant_id, alice.chatbot_id, "delivery changed", None)}
    assert "Changed twice." in texts
    assert "Changed once." not in texts


def test_what_is_deleted_is_found_no_more(alice):
    index(alice)
    with in_tenant(alice.tenant_id):
        Article.objects.filter(slug="delivery").delete()
    assert "delivery" not in found(alice, "When does my parcel arrive?")


def test_a_search_stays_inside_its_tenant_and_its_chatbot(alice):
    charlie = open_shop("charlie", "http://127.0.0.1:1")
    write(charlie, "secret", "Parcel", "When does my parcel arrive? Never.")
    widget, _, _ = create_widget(alice.tenant_id, ["http://localhost:8000"])
    with in_tenant(alice.tenant_id):
        other = Chatbot.objects.create(tenant_id=alice.tenant_id, name="Other", widget=widget, instructions="Answer.")
    write(alice, "internal", "Parcel", "When does my parcel arrive? Ask the porter.", other.id)
    for shop in (alice, charlie):
        index(shop)
    async_to_sync(knowledge.index)(alice.tenant_id, other.id, Embedding())
    assert set(found(alice, "When does my parcel arrive?")) == {"delivery", "gift-cards", "returns"}
    assert found(charlie, "When does my parcel arrive?")[0] == "secret"
    assert knowledge.search(charlie.tenant_id, alice.chatbot_id, "parcel", vector("parcel")) == []


def test_of_many_passages_the_best_few_are_found_and_of_few_all(alice):
    index(alice)
    assert len(found(alice, "qwertz")) == 3
    for number in range(60):
        write(alice, f"new-{number}", f"Bulb {number}", "A bulb shines.")
    index(alice)
    assert len(found(alice, "Which bulb shines?")) == knowledge.MOST_FOUND


def test_a_long_article_is_found_by_each_of_its_parts(alice):
    parts = [
        f"## Part {word}\n\n" + f"The {word} is described here at length. " * 30 for word in ("zebra", "lion", "owl")
    ]
    write(alice, "animals", "Animals", "\n\n".join(parts))
    index(alice)
    with in_tenant(alice.tenant_id):
        assert Passage.objects.filter(article__slug="animals").count() >= 3
    hit = knowledge.search(alice.tenant_id, alice.chatbot_id, "lion", vector("lion described"))[0]
    assert (hit.slug, "lion" in hit.text, "zebra" in hit.text) == ("animals", True, False)


def test_nothing_that_a_customer_types_breaks_the_search(alice):
    index(alice)
    for question in ("", "'", "a:b & !c | (d <-> \\", "\0", "x" * 8000, "ünïcødé 漢字 🙂", "%s %(x)s"):
        knowledge.search(alice.tenant_id, alice.chatbot_id, question, None)


def test_chatbots_whose_index_is_not_that_of_their_articles_are_known(alice):
    assert outdated(alice) == [alice.chatbot_id]
    index(alice)
    assert outdated(alice) == []
    write(alice, "delivery", "Delivery", "By drone.")
    assert outdated(alice) == [alice.chatbot_id]


def outdated(shop) -> list:
    with in_tenant(shop.tenant_id):
        return [chatbot.id for chatbot in knowledge.outdated()]
