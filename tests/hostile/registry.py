"""All readers of files that a user may get from a stranger."""

from __future__ import annotations

from tests.hostile.datasets import DATASETS
from tests.hostile.documents import DOCUMENTS
from tests.hostile.models import MODELS
from tests.hostile.reader import Reader
from tests.hostile.results import RESULTS
from tests.hostile.volumes import VOLUMES

READERS: dict[str, Reader] = {reader.name: reader for reader in (*VOLUMES, *DATASETS, *DOCUMENTS, *MODELS, *RESULTS)}
