"""Speaks nnsight's protocol with an NDIF server for Patchboard.

A line of JSON on standard input asks, lines of JSON on standard output answer; compute/src/ndif/protocol.rs has the
forms of both. Nothing else is written there. The key comes from NDIF_API_KEY or nnsight's own configuration, and is
taken out of everything that is said, and so is a name with a password in the server's address.
"""

import io
import json
import os
import sys
import traceback

# Before anything else can print to it.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")


# What is taken out of everything that is said, beside the key.
SECRETS = set()


class Failure(Exception):
    """What went wrong, by its kind; `Reason` in protocol.rs has the kinds."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


def key():
    from nnsight import CONFIG

    return CONFIG.API.APIKEY or ""


def hidden(text):
    secrets = {*SECRETS, os.environ.get("NDIF_API_KEY") or ""}
    if "nnsight" in sys.modules:
        secrets.add(key())
    for secret in secrets - {""}:
        text = text.replace(secret, "[key]")
    return text


def answer(kind, **fields):
    try:
        line = json.dumps({"kind": kind, **fields}, allow_nan=False)
    except ValueError as error:
        raise Failure("other", "the model computes NaN or infinity") from error
    ANSWERS.write(hidden(line) + "\n")
    ANSWERS.flush()


class Printed(io.TextIOBase):
    """Standard output and error of everything else: what a wave prints in this process is an answer."""

    def __init__(self, to):
        self.to, self.rest = to, ""

    def write(self, text):
        self.rest += text
        *lines, self.rest = self.rest.split("\n")
        for line in lines:
            if not told(line):
                self.to.write(hidden(line) + "\n")
                self.to.flush()
        return len(text)


def told(line):
    """Passes on what a wave has printed; whether it was that."""
    from waves import MARK

    if not line.startswith(MARK):
        return False
    try:
        message = json.loads(line[len(MARK) :])
        fields = {name: message[name] for name in ("pair", "cells") if name in message}
        log_true, log_false, log_all, *divergence = message["values"]
        above_true, above_false = message["above"]
        numbers = {
            "log_true": log_true,
            "log_false": log_false,
            "log_all": log_all,
            "above_true": above_true,
            "above_false": above_false,
            "divergence": divergence,
            "top": message["top"],
            "top_logits": message["top_logits"],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("other", f"the server says what is no wave: {error}") from error
    answer("wave" if "cells" in fields else "runs", numbers=numbers, **fields)
    return True


def last_lines(error):
    """The end of an error's text, where the cause is."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[-3:]) or type(error).__name__


class Session:
    """A model on a server, or in this process."""

    def __init__(self, ask):
        import torch
        from nnsight import CONFIG

        import models

        CONFIG.APP.REMOTE_LOGGING = False
        torch.set_grad_enabled(False)
        host = ask.get("host") or CONFIG.API.HOST
        self.server = None
        if host == "local":
            self.model = models.whole(ask["folder"])
            opened = {"host": "local", "server_nnsight": None, "ndif": None, "state": "in this process", "dtype": "float32"}
            opened |= {"time_limit_secs": None, "is_trusted": None}
        else:
            import server

            self.model = models.without_weights(ask["folder"])
            self.server = server.Server(host, key(), ask["model"], ask.get("revision"), answer, told)
            opened = self.server.opened(self.model)
        import nnsight

        answer("opened", nnsight=nnsight.__version__, **opened)

    def sweep(self, ask):
        import waves

        n_sent = n_received = 0
        if self.server is None:
            waves.run(self.model, {"remote": "local"}, ask["pairs"], ask["n_top"])
        else:
            backend = self.server.backend()
            waves.run(self.model, {"backend": backend}, ask["pairs"], ask["n_top"])
            n_sent, n_received = backend.n_sent, backend.n_received
        answer("done", n_sent=n_sent, n_received=n_received)


def main():
    sys.stdout, sys.stderr = Printed(sys.stderr), Printed(sys.stderr)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    session = None
    for line in sys.stdin:
        try:
            ask = json.loads(line)
            if ask["kind"] == "open":
                session = Session(ask)
            else:
                session.sweep(ask)
        except Failure as failure:
            answer("failed", reason=failure.reason, message=str(failure))
        except ModuleNotFoundError as error:
            answer("failed", reason="unsupported", message=f"{error}: run scripts/setup-ndif.sh again")
        except Exception as error:
            traceback.print_exc()
            answer("failed", reason="other", message=last_lines(error))


if __name__ == "__main__":
    # `import helper` in the other files is this module.
    sys.modules["helper"] = sys.modules["__main__"]
    main()
