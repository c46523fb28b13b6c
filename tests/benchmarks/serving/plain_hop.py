"""What placed variants would be without batches: one handle call for each request, for bench_placement.py.

The gateway is the product's own in everything else, and so are the deployments that it calls.
"""

from __future__ import annotations

import asyncio

from ray import serve

from attrition.serving import app, row_batches
from attrition.serving.placed import reach


class UnbatchedReplica(app.GatewayReplica):
    """A gateway whose lines send each part by itself, as many at a time as come."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        application = serve.get_replica_context().app_name
        self._gateway._reach = lambda variant: Line(reach(application, variant, lambda *_: None))


class Line:
    """In the place of a batcher."""

    def __init__(self, batcher):
        self._send, self.probe, self.drained = batcher._send, batcher.probe, batcher.drained

    def submit(self, part):
        return asyncio.get_running_loop().create_task(self._call(part))

    async def _call(self, part):
        return row_batches.decode(await self._send(row_batches.encode([part])), [part])[0]


def build(args):
    """The application."""
    app.GatewayReplica = UnbatchedReplica
    return app.build(args)
