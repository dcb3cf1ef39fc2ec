"""The kinds of stages, the nodes of a trial's tree, without torch; `tailor.stage_execution` computes them."""

from tailor.stages.adaptation import CumulativeSum, Priority, PruneByCumulativeSum
from tailor.stages.identity import Stage, StageGenerator, StageSubgenerator, canonical_json, settings_json
from tailor.stages.legr import LearnRanking
from tailor.stages.pac_net import Allocate, Calibrate, FindEssential
from tailor.stages.preparing import FitHead, LoadWeights, Reinitialise, RememberWeights, TrainSource, WeighChannels
from tailor.stages.pruning import (
    AdoptScores,
    AttachImportance,
    BetaMode,
    BetaNormalisation,
    Division,
    FoldImportance,
    Grouping,
    MeasureNorms,
    Prune,
    PruneByTable,
    ScoreFilters,
    ScoreNormalisation,
    ShiftMeans,
    TrainFactors,
    step_seed,
)
from tailor.stages.records import (
    BACKWARD_WORK,
    ConvGroups,
    GroupRule,
    Placement,
    Size,
    StageCost,
    StageOutcome,
    Task,
    TaskImages,
)
from tailor.stages.schemes import FineTuneSoftly, TrainGates
from tailor.stages.training import NO_CHANGES, ImageChanges, Training, TrainingSettings
from tailor.stages.tuning import Distillation, FineTune, FineTunePart, OperatingPoint, PointFacts
