"""Follows an event URL with a popular client, and prints each event that it delivers as a JSON line {type, data, id}.

    python follow.py httpx-sse|aiohttp-sse-client2|sseclient-py|requests-sse|requests <url>

`requests` is that package alone, reading the stream by hand: line by line, as text.

Clients that do not reconnect by themselves are reconnected here, from the last id that they delivered. Ends when the server
says that the channel has ended.
"""

import asyncio
import json
import sys
import time
from datetime import timedelta

import httpx
import requests

SOON = 0.02  # seconds between a cut and the next connection


def show(name, data, id):
    """Prints an event, and returns whether it was the last one."""
    line = {"type": name or "message", "data": data or "", "id": id or ""}
    print(json.dumps(line), flush=True)
    return name == "stream-end"


def reconnecting(connect, cut):
    """Reconnects after each end and each exception of type `cut`. `connect` takes headers, and yields name, data and id."""
    headers = {"Accept": "text/event-stream"}
    while True:
        try:
            for name, data, id in connect(headers):
                if id:
                    headers["Last-Event-ID"] = id
                if show(name, data, id):
                    return
        except cut:
            pass
        time.sleep(SOON)


def httpx_sse(url):
    from httpx_sse import connect_sse

    def connect(headers):
        with httpx.Client(trust_env=False, timeout=30) as client:
            with connect_sse(client, "GET", url, headers=dict(headers)) as source:
                for event in source.iter_sse():
                    yield event.event, event.data, event.id

    reconnecting(connect, httpx.TransportError)


def sseclient_py(url):
    from sseclient import SSEClient

    def connect(headers):
        with session() as requester, requester.get(url, headers=headers, stream=True, timeout=30) as response:
            for event in SSEClient(response).events():
                yield event.event, event.data, event.id

    reconnecting(connect, requests.RequestException)


def by_hand(url):
    def connect(headers):
        with session() as requester, requester.get(url, headers=headers, stream=True, timeout=30) as response:
            fields = {"data": []}
            for line in response.iter_lines(decode_unicode=True):
                field, _, value = line.partition(": ")
                if field == "data":
                    fields["data"].append(value)
                elif line:
                    fields[field] = value
                else:
                    yield fields.get("event"), "\n".join(fields["data"]), fields.get("id")
                    fields = {"data": []}

    reconnecting(connect, requests.RequestException)


def requests_sse(url):
    from requests_sse import EventSource

    with EventSource(url, session=session(), reconnection_time=timedelta(seconds=SOON)) as source:
        for event in source:
            if show(event.type, event.data, event.last_event_id):
                return


def aiohttp_sse_client2(url):
    from aiohttp import ClientError
    from aiohttp_sse_client2.client import EventSource
    from multidict import CIMultiDict

    async def follow():
        headers = CIMultiDict()  # the client adds its own id to these in another spelling, hence case-insensitive
        while True:
            try:
                async with EventSource(url, headers=headers, reconnection_time=timedelta(seconds=SOON)) as source:
                    async for event in source:
                        headers["Last-Event-ID"] = event.last_event_id
                        if show(event.type, event.data, event.last_event_id):
                            return
            except (ClientError, ConnectionError):
                await asyncio.sleep(SOON)

    asyncio.run(follow())


def session():
    """A session that ignores the proxies of the environment."""
    session = requests.Session()
    session.trust_env = False
    return session


CLIENTS = {
    "httpx-sse": httpx_sse,
    "aiohttp-sse-client2": aiohttp_sse_client2,
    "sseclient-py": sseclient_py,
    "requests-sse": requests_sse,
    "requests": by_hand,
}
client, url = sys.argv[1:]
CLIENTS[client](url)
