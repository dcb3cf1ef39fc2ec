"""The kinds of stages, nodes of a trial's tree; torch-free; `tailor.stage_execution` does the work."""

from tailor.stages.adaptation import CumulativeSum, Priority, PruneByCumulativeSum
from tailor.stages.attention import WeighChannels
from tailor.stages.base import (
    BACKWARD_WORK,
    STAGE_JSON_BYTES,
    GroupRule,
    Placement,
    Size,
    Stage,
    StageCost,
    StageOutcome,
    Task,
    Training,
    canonical_json,
)
from tailor.stages.legr import LearnRanking
from tailor.stages.pac_net import Allocate, Calibrate, FindEssential
from tailor.stages.preparing import FitHead, LoadWeights, Reinitialise, RememberWeights, TrainSource
from tailor.stages.pruning import (
    AttachImportance,
    BetaMode,
    FoldImportance,
    Grouping,
    MeasureNorms,
    Normalisation,
    Prune,
    PruneBestOfRandom,
    PruneToLatency,
    ScoreFilters,
    TrainFactors,
)
from tailor.stages.schemes import FineTuneSoftly, TrainGates
from tailor.stages.tuning import Distillation, FineTune, OperatingPoint, PointFacts

__all__ = [
    "BACKWARD_WORK",
    "STAGE_JSON_BYTES",
    "Allocate",
    "AttachImportance",
    "BetaMode",
    "Calibrate",
    "StageCost",
    "CumulativeSum",
    "Distillation",
    "FindEssential",
    "FineTune",
    "FineTuneSoftly",
    "FitHead",
    "FoldImportance",
    "GroupRule",
    "Grouping",
    "LearnRanking",
    "LoadWeights",
    "MeasureNorms",
    "Normalisation",
    "OperatingPoint",
    "StageOutcome",
    "Placement",
    "PointFacts",
    "Priority",
    "Prune",
    "PruneBestOfRandom",
    "PruneByCumulativeSum",
    "PruneToLatency",
    "Reinitialise",
    "RememberWeights",
    "ScoreFilters",
    "Size",
    "Stage",
    "Task",
    "TrainFactors",
    "TrainGates",
    "TrainSource",
    "Training",
    "WeighChannels",
    "canonical_json",
]
