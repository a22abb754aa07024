"""Answers one request with a real framework and real libraries, then exits.

With --serve it stays and answers on port 8080.
"""
import sys
import time

started = time.time()
import flask
import numpy
import pandas

app = flask.Flask(__name__)


@app.get("/")
def index():
    return pandas.DataFrame({"a": numpy.arange(4)}).describe().to_json()


if "--serve" in sys.argv:
    app.run(host="127.0.0.1", port=8080)
else:
    answer = app.test_client().get("/")
    seconds = time.time() - started
    print("hello", answer.status_code, len(answer.data), f"{seconds:.2f}s")
