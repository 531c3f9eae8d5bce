"""A broker of amqtt. Argument: the port. What a user may do is here: `backend` everything, `device`
only below iot-projekt."""

import asyncio
import sys

# This file has the name of the package.
sys.path.pop(0)

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin


class Users(BaseAuthPlugin):
    async def authenticate(self, *, session):
        return session.username in ("backend", "device") and session.password == "secret"


class Topics(BaseTopicPlugin):
    async def topic_filtering(self, *, session=None, topic=None, action=None):
        free = session is None or session.username != "device" or action != Action.PUBLISH
        return free or topic.startswith("iot-projekt/")


async def main():
    port = sys.argv[1]
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"__main__.Users": {}, "__main__.Topics": {}},
    }
    await Broker(config).start()
    await asyncio.Event().wait()


asyncio.run(main())
