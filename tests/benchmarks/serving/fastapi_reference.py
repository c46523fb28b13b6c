"""A careful hand-made service: FastAPI, a pydantic model with our ranges, and our compiled scorer; no log, no split.

Run by uvicorn with two workers (see bench_serving.py).
"""

import os
from typing import Annotated

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field

from attrition.registry.bundle import load_bundle

app = FastAPI()
bundle = load_bundle(os.environ["BENCHMARK_BUNDLE"], os.environ["BENCHMARK_MANIFEST"])
names = bundle.schema.names


class Record(BaseModel):
    employee_id: str | None = None
    tenure: Annotated[float, Field(ge=0, le=720)]
    age: Annotated[float, Field(ge=14, le=100)]
    satisfaction_score: Annotated[float, Field(ge=1, le=5)]
    performance_rating: Annotated[float, Field(ge=1, le=5)]
    work_hours: Annotated[float, Field(ge=0, le=112)]
    projects_count: Annotated[int, Field(ge=0, le=50)]
    promotion_flag: Annotated[int, Field(ge=0, le=1)]
    salary: Annotated[float, Field(ge=0)]
    department_code: int


class Records(BaseModel):
    records: Annotated[list[Record], Field(min_length=1, max_length=1000)]


class Prediction(BaseModel):
    probability: float
    decision: bool
    model_version: str


class Predictions(BaseModel):
    predictions: list[Prediction]


def prediction(probability: float) -> Prediction:
    return Prediction(probability=probability, decision=probability >= bundle.threshold, model_version=bundle.version)


@app.post("/v1/predict")
async def predict(record: Record) -> Prediction:
    return prediction(bundle.scorer.score_one([getattr(record, name) for name in names]))


@app.post("/v1/predict-many")
async def predict_many(body: Records) -> Predictions:
    matrix = np.array([[getattr(record, name) for name in names] for record in body.records], dtype=np.float64)
    return Predictions(predictions=[prediction(p) for p in bundle.scorer.score(matrix).tolist()])
