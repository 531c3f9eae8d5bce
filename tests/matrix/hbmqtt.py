"""A broker of hbmqtt. Argument: the port. It does not ask who may publish what."""

import asyncio
import sys

# This file has the name of the package.
sys.path.pop(0)

from hbmqtt.broker import Broker
from passlib.apps import custom_app_context

with open("passwords", "w") as passwords:
    for user in ("backend", "device"):
        print(user, custom_app_context.hash("secret"), sep=":", file=passwords)
config = {
    "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}", "max_connections": 50}},
    "sys_interval": 0,
    "auth": {"allow-anonymous": False, "password-file": "passwords", "plugins": ["auth_file"]},
    "topic-check": {"enabled": True, "plugins": ["topic_acl"], "acl": {"backend": ["#"], "device": ["#"]}},
}
loop = asyncio.get_event_loop()
loop.run_until_complete(Broker(config).start())
loop.run_forever()
