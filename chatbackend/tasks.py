"""Background work, done by `manage.py procrastinate worker`."""

from procrastinate.contrib.django import app

from chatbackend import recovery


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="settle_dead_turns", pass_context=False)
def settle_dead_turns(timestamp: int) -> None:
    recovery.settle()
