"""An NDIF server: what it says of itself, and requests to it.

Nothing that a server sends is unpickled. Results are lines that a block prints; the pickled result at the end of a
request is empty, and is thrown away unread.
"""

import json
from urllib.parse import urlsplit

import httpx
import websocket
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.schema.request import RequestModel

import waves
from helper import SECRETS, Failure, last_lines

# Seconds.
CONNECT, ANSWER, BEAT = 10, 60, 5
# So many times in a row a server must not answer a ping to count as gone.
N_PINGS = 3
# The versions of nnsight whose requests this helper's can read.
MINOR = "0.8"


class Server:
    """A server and a model there."""

    def __init__(self, host, api_key, model, revision, answer, told):
        self.host, self.api_key, self.answer, self.told = host.rstrip("/"), api_key, answer, told
        if urlsplit(self.host).scheme not in ("http", "https"):
            raise Failure("unreachable", f"the address is `{host}`: expected one that begins with http:// or https://")
        self.repo, self.revision = model, revision
        user, _, self.netloc = urlsplit(self.host).netloc.rpartition("@")
        SECRETS.update({user} - {""})

    @property
    def model_key(self):
        # The form that nnsight gives it; the server compares it letter by letter.
        name = {"repo_id": self.repo, "revision": self.revision, "task": "text-generation"}
        return "nnsight.modeling.transformers.TransformersModel:" + json.dumps(name)

    def get(self, path):
        headers = {"ndif-api-key": self.api_key} if self.api_key else {}
        try:
            response = httpx.get(self.host + path, headers=headers, timeout=httpx.Timeout(ANSWER, connect=CONNECT))
            # A key of the wrong form; of one that it does not know a server says nothing here.
            if path == "/whoami" and response.status_code in (400, 401, 403):
                raise Failure("key", response.text)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Failure("unreachable", f"{self.host}{path}: {error}") from error

    def deployment(self):
        """What the server says of the model; nothing if it does not run it."""
        rank = {"RUNNING": 0, "DEPLOYING": 1}
        found = None
        for name, deployment in (self.get("/status").get("deployments") or {}).items():
            # Of some deployments there is nothing but the actor's name, which ends in the model's.
            key = str(deployment.get("model_key") or name.partition("ModelActor:")[2])
            # A server knows a model by the spelling of the hub.
            if key.lower() != self.model_key.lower() or deployment.get("deployment_level") == "COLD":
                continue
            self.repo = json.loads(key.partition(":")[2])["repo_id"]
            state = deployment.get("application_state")
            if found is None or rank.get(state, 2) < rank.get(found.get("application_state"), 2):
                found = deployment
        return found

    def opened(self, model):
        """What is to be known before anything runs. A model that is not there is asked for."""
        identity = self.get("/whoami")
        packages = self.get("/env").get("packages") or {}
        theirs = packages.get("nnsight")
        if theirs is not None and not str(theirs).startswith(MINOR + "."):
            raise Failure("unsupported", f"the server has nnsight {theirs}, and this helper speaks with {MINOR}")
        found = self.deployment() or {}
        if found.get("application_state") != "RUNNING":
            self.answer("said", text=f"{self.repo} is not running on {self.host}: asking the server for it")
        dtype = found.get("dtype")
        if found.get("application_state") != "RUNNING" or dtype is None:
            dtype = self.asked_dtype(model)
            found = self.deployment() or {}
        tags = identity.get("tags") or []
        return {
            "host": self.netloc,
            "server_nnsight": theirs,
            "ndif": packages.get("ndif"),
            "state": str(found.get("application_state", "running")).lower(),
            "dtype": dtype,
            "time_limit_secs": found.get("execution_timeout_seconds"),
            # Without accounts, or without the key of one, the server says nothing of it.
            "is_trusted": "trusted" in tags if identity.get("email") or tags else None,
        }

    def asked_dtype(self, model):
        """The type that the model computes in, by a request of one token."""
        lines = []
        waves.say_dtype(model, Backend(self, lines.append))
        said = [line for line in lines if line.startswith(waves.MARK)]
        return str(json.loads(said[-1][len(waves.MARK) :])).removeprefix("torch.") if said else None

    def is_there(self):
        try:
            return httpx.get(self.host + "/ping", timeout=BEAT).is_success
        except httpx.HTTPError:
            return False

    def backend(self):
        return Backend(self, self.told)


class Backend(RemoteBackend):
    """Sends a block and listens until it has run."""

    def __init__(self, server, printed):
        super().__init__(server.model_key, host=server.host, api_key=server.api_key or None)
        self.server, self.printed, self.n_sent, self.n_received = server, printed, 0, 0

    def __call__(self, tracer=None):
        blob = self._serialize(tracer)
        header = {"ndif-api-key": self.api_key} if self.api_key else None
        request = RequestModel(model_key=self.model_key, compress=self.compress)
        try:
            socket = websocket.create_connection(self.ws_host + "/subscribe", header=header, timeout=CONNECT)
        except (OSError, websocket.WebSocketException) as error:
            raise Failure("unreachable", f"{self.host}: {error}") from error
        try:
            request.session_id = json.loads(socket.recv())["session_id"]
            self.n_sent += len(blob)
            self._post(request, blob)
            self.listen(socket)
        except RemoteError as error:
            raise refused(error) from error
        except (OSError, websocket.WebSocketException, KeyError, ValueError) as error:
            raise Failure("unreachable", f"the connection to {self.host} broke off: {error}") from error
        finally:
            socket.close()

    def listen(self, socket):
        socket.settimeout(BEAT)
        n_missed = 0
        while True:
            try:
                frame = socket.recv()
            except websocket.WebSocketTimeoutException:
                self.server.answer("alive")
                n_missed = 0 if self.server.is_there() else n_missed + 1
                if n_missed == N_PINGS:
                    raise Failure("unreachable", f"{self.host} does not answer any more") from None
                continue
            self.n_received += len(frame)
            # What is not text is the pickled result.
            if not isinstance(frame, str):
                return
            update = json.loads(frame)
            status, text = update.get("status"), str(update.get("description") or "")
            if status == "COMPLETED":
                return
            if status == "ERROR":
                raise failed(text)
            if status == "LOG":
                self.printed(text)
            else:
                self.server.answer("said", text=f"{status}: {text}" if text else str(status))


def refused(error):
    """What a server says to a request that it does not take."""
    response = getattr(error.__cause__, "response", None)
    status, text = getattr(response, "status_code", None), str(error)
    if status in (401, 403) or "API key" in text:
        return Failure("key", text)
    if status == 413 or "parsing the body" in text:
        return Failure("too_large", text)
    if status is None or status >= 500:
        return Failure("unreachable", text)
    return Failure("unsupported", text)


def failed(text):
    """What a server says of a request that went wrong there."""
    for words, reason in [
        ("exceeded the execution timeout", "time_out"),
        ("Could not deploy", "model"),
        ("out of memory", "memory"),
        ("OutOfMemory", "memory"),
    ]:
        # Of a traceback around it nobody is the wiser.
        for line in text.splitlines():
            if words in line:
                return Failure(reason, line.strip())
    return Failure("other", last_lines(text))
