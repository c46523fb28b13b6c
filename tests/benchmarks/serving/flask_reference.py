"""What people do today: Flask and a scikit-learn pipeline on a DataFrame per request.

Run by gunicorn with threads in a virtual environment of its own (see bench_serving.py); nothing of ours is imported.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pandas as pd
from flask import Flask, jsonify, request

THRESHOLD = 0.5

app = Flask(__name__)
pipeline = pickle.loads(Path(os.environ["BENCHMARK_PIPELINE"]).read_bytes())
names = list(pipeline.feature_names_in_)


@app.post("/v1/predict")
def predict():
    document = request.get_json()
    records = document.get("records", [document])
    probabilities = pipeline.predict_proba(pd.DataFrame.from_records(records, columns=names))[:, 1].tolist()
    predictions = [{"probability": p, "decision": p >= THRESHOLD, "model_version": "1.0.0"} for p in probabilities]
    return jsonify({"predictions": predictions} if "records" in document else predictions[0])
