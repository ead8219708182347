"""What an empty list of the admin pages says: why nothing is there, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Empty:
    why: str
    then: str  # what to do
    link: str = ""  # what the link is called, and
    page: str = ""  # the model to whose list it leads


ASK = Empty("Nobody has asked anything yet.", "Ask the first question yourself, in the widget on your site.")
EMPTY = {
    "conversation": Empty(
        "No conversation is here.",
        "One begins with a customer's first question in the widget; those that wait for a person appear by themselves.",
        *("Your widget", "widget"),
    ),
    "turn": ASK,
    "modelcall": ASK,
    "message": ASK,
    "event": ASK,
    "feedback": Empty(
        "Nobody has judged a reply yet.",
        "Customers do so with the thumbs under each reply; a member by saying what a reply should have said.",
        *("Conversations", "conversation"),
    ),
    "customer": Empty(
        "There is no customer yet.",
        "Each comes with their first message; your server can also send them all beforehand, through the API.",
        *("API keys", "apikey"),
    ),
    "member": Empty("Nobody else is a member.", "An owner invites colleagues through the API: POST /api/v1/members."),
    "budget": Empty(
        "There is no budget: only the credit limits what is spent.",
        "Add one for a day, a month or in all: for everything, a chatbot, a segment or each customer.",
    ),
    "statement": Empty(
        "No month is closed yet.", "Above stand the open months: close one when it is over and its figures are right."
    ),
    "export": Empty(
        "No export was asked for yet.", "Add one: choose months and format; the file is written in the background."
    ),
    "ledgerentry": Empty(
        "No money has moved yet.", "The operator tops the credit up; then each question that is asked has its entries."
    ),
    "hold": Empty(
        "No money was ever set aside.", "The dearest way a turn could go is held before the first model is called."
    ),
    "tariff": Empty("No tariff is set: what the providers charge is what you pay.", "The operator sets another."),
    "price": Empty("No model has a price: none can be asked.", "The operator imports them: manage.py import_prices."),
    "languagemodel": Empty("No model is offered.", "The operator offers them: manage.py import_prices."),
    "chatbot": Empty(
        "There is no chatbot yet.", "Add one; it needs a widget, by which your site is known.", *("Widgets", "widget")
    ),
    "widget": Empty(
        "There is no widget yet.",
        "The operator makes one: manage.py create_widget; or a program, with its chatbot: POST /api/v1/chatbots.",
    ),
    "article": Empty(
        "There is no article yet.",
        "Write one, or read them from files. Models answer from articles, and name them under the reply.",
        *("Read them from files", "upload"),
    ),
    "upload": Empty("No file was read yet.", "Add Markdown, HTML, PDF or text files; each becomes an article."),
    "lookup": Empty(
        "Every question found an article, or none was asked.",
        "What none answers is collected here, ready to become one.",
        *("Articles", "article"),
    ),
    "savedreply": Empty(
        "There is no saved reply yet.",
        "Write the answer to what is asked most: it is given word for word, at no model's cost.",
        *("What is asked", "message"),
    ),
    "rememberedanswer": Empty(
        "Nothing is remembered yet.",
        "Accepted answers come here by themselves, if the chatbot's share of wrong hits is above 0.",
        *("Your chatbots", "chatbot"),
    ),
    "cascadestrategy": Empty(
        "There is no strategy: nothing can be answered.",
        "Add one: which models are asked, cheapest first, and the score that each answer needs.",
        *("Models on offer", "languagemodel"),
    ),
    "proposal": Empty(
        "No search was made yet.", "Search above. It needs fifty explored turns: set a share of turns to explore first."
    ),
    "shadowtrial": Empty(
        "No strategy was tried in the shadow yet.",
        "Choose one above, once there is a version that is not live.",
        *("Strategies", "cascadestrategy"),
    ),
    "strategychange": Empty(
        "Nobody has promoted a strategy yet.",
        "Promote one on its own page; from then on the chatbot answers by it.",
        *("Strategies", "cascadestrategy"),
    ),
    "driftreading": Empty(
        "No week has been read yet.",
        "Each night the last whole week is read, where it had fifty turns of twenty customers.",
    ),
    "scorerversion": Empty(
        "The shipped weights judge; there are none of your own.",
        "Once two hundred replies were judged, train one: with the button above, over the API or by the command.",
        *("What was judged", "feedback"),
    ),
    "shadowscore": Empty(
        "No version of the scorer is in the shadow.",
        "A newly trained one judges beside the live one before it is promoted.",
        *("Versions", "scorerversion"),
    ),
    "scorercalibration": Empty(
        "Scores are read as they are.",
        "Once enough replies were judged, a nightly fit says what a score means here.",
        *("What was judged", "feedback"),
    ),
    "apikey": Empty("No program has a key yet.", "The operator makes the first: manage.py create_api_key."),
    "tenant": Empty("There is no tenant.", "The operator makes one: manage.py create_tenant."),
    "auditentry": Empty(
        "Nothing was changed yet.",
        "Every change of a setting is written here by the database itself.",
    ),
    "webhook": Empty(
        "None of your servers is told of anything.", "A program with a key adds one: POST /api/v1/webhooks."
    ),
    "delivery": Empty(
        "Nothing was sent yet.",
        "Events go to your webhooks as they happen; what was refused for a day is dead, and can be sent again here.",
        *("Webhooks", "webhook"),
    ),
}
