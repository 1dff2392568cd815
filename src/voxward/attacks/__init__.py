"""Attacks on segmentation models: threat models, objectives, white-box and black-box attacks, and ensembles of them."""

from voxward.attacks.base import Attack, AttackResult
from voxward.attacks.registry import ATTACKS, create, create_with, describe
from voxward.attacks.threat import ThreatModel

__all__ = ["ATTACKS", "Attack", "AttackResult", "ThreatModel", "create", "create_with", "describe"]
