"""The public surface with its types: `__init__.py` imports each name when it is first used."""

from voxward import attacks as attacks
from voxward.attacks.threat import ThreatModel as ThreatModel
from voxward.commands.attack import attack as attack
from voxward.commands.attack import benchmark as benchmark
from voxward.commands.check import check as check
from voxward.commands.check_system import check_system as check_system
from voxward.commands.compose import compose as compose
from voxward.commands.cv import cv as cv
from voxward.commands.demo import demo as demo
from voxward.commands.evaluate import evaluate as evaluate
from voxward.commands.evaluate_segmentations import evaluate_segmentations as evaluate_segmentations
from voxward.commands.harden import harden as harden
from voxward.commands.merge import merge as merge
from voxward.commands.plan import plan as plan
from voxward.commands.predict import predict as predict
from voxward.commands.prepare import prepare as prepare
from voxward.commands.report import write_report as write_report
from voxward.commands.reproduce import reproduce as reproduce
from voxward.commands.search import search as search
from voxward.commands.serve import serve as serve
from voxward.commands.suspects import suspects as suspects
from voxward.commands.train import train as train
from voxward.commands.worker import worker as worker
from voxward.core.case import Volume as Volume
from voxward.core.choices import Cases as Cases
from voxward.core.choices import Cluster as Cluster
from voxward.core.choices import Compute as Compute
from voxward.core.choices import Fold as Fold
from voxward.core.choices import Look as Look
from voxward.core.choices import Output as Output
from voxward.core.choices import Reading as Reading
from voxward.core.choices import Reuse as Reuse
from voxward.core.choices import Trusted as Trusted
from voxward.core.errors import CasesFailed as CasesFailed
from voxward.core.model import PatchModel as PatchModel
from voxward.core.recipe import load_recipe as load_recipe
from voxward.data.formats import open_dataset as open_dataset
from voxward.data.io import read_image as read_image
from voxward.data.io import read_label as read_label
from voxward.metrics.policies import Scoring as Scoring
from voxward.nets.registry import create_network as create_network
from voxward.phantoms.write import write_abdomen_phantoms as write_abdomen_phantoms
from voxward.phantoms.write import write_brain_phantoms as write_brain_phantoms
from voxward.phantoms.write import write_phantoms as write_phantoms
from voxward.pipeline.model import PipelineModel as PipelineModel
from voxward.pipeline.predictor import Predictor as Predictor
from voxward.report.progress import ShowProgress as ShowProgress
from voxward.robustness.protocol import load_protocol as load_protocol
from voxward.runs.folder import load_run as load_run
from voxward.systems.blackbox import blackbox_system as blackbox_system
from voxward.systems.network.system import network_system as network_system
from voxward.systems.open import open_system as open_system

__version__: str
__all__: list[str]
