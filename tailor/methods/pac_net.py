"""PAC-Net: prune, allocate, calibrate.

Myung, Huh, Jang, Choe, Ryu, D. Kim, K.-E. Kim, Jeong; ICML 2022; arXiv 2206.05703.

Marks: P = printed in the paper, C = our choice if the paper does not say it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tailor.common.seeds import stream
from tailor.common.settings import Count, Rate
from tailor.config.trial import Method, TrialConfig, register
from tailor.methods.recipe import Recipe
from tailor.stages import Allocate, Calibrate, FindEssential, StageGenerator, Training

OF_ALL_LAYERS = ("learning_rate", "norm", "layer_decay")  # settings of a fine-tuning that Calibrate does not read


@register
class PACNet(Method):
    """Keep the weights that the source needs, and train the others on the target."""

    needs: ClassVar[frozenset[str]] = frozenset({"source_task"})
    unread: ClassVar[frozenset[str]] = frozenset({"pruning", *(f"optimisation.{name}" for name in OF_ALL_LAYERS)})
    prunes_to_a_budget: ClassVar[bool] = False
    tunes_pruned: ClassVar[bool] = False
    has_own_penalty: ClassVar[bool] = True
    keeps_source_head: ClassVar[bool] = True
    rate: ClassVar[str] = "method.calibrate_learning_rate"
    name: Literal["pac_net"] = "pac_net"
    prune_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.8
    """Share of the weights of all convolution and linear layers that is redundant (P: 0.8)."""
    penalty_strength: Rate = 0.01
    """lambda, the factor of the sum of the squared redundant weights in Calibrate's loss (P: 0.01)."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Optimiser of Allocate and Calibrate (P: Adam); SGD has the momentum of `source` and `optimisation`."""
    allocate_epochs: Count = 6
    """Epochs of training the essential weights on the source (C: half of the source's own)."""
    allocate_learning_rate: Rate = 0.001
    """Their learning rate, with the source's schedule (C)."""
    start_penalty: Annotated[float, Field(ge=0.0, allow_inf_nan=False, json_schema_extra={"neutral": 0.0})] = 0.0
    """Factor of the squared distance of the essential weights from the pre-trained ones in Allocate's loss; a blog of
    the authors has it, the abstract has not (C: 0)."""
    calibrate_learning_rate: Rate = 0.001
    """Learning rate of the redundant weights (C); the head's, epochs, batch size and schedule are `optimisation`'s."""

    @property
    def trains_by_sgd(self) -> bool:
        """Whether Allocate and Calibrate are."""
        return self.optimiser == "sgd"

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Yield Prune and Allocate, which read only the source and are shared by all targets; head; Calibrate."""
        recipe = Recipe(config)
        pretrained = yield recipe.source()
        essential = yield FindEssential(of=pretrained, prune_ratio=self.prune_ratio)  # Prune
        allocated = yield Allocate(  # Allocate: w_S
            of=essential,
            data_name=config.data.name,
            data_sha256=recipe.task.sha256,
            training=self._allocation_training(config),
            start_penalty=self.start_penalty,
        )
        fitted = yield recipe.fit_head(allocated)
        calibrated = yield Calibrate(
            of=fitted,
            task=recipe.task,
            training=self._calibration_training(recipe.tuning(1)),
            penalty_strength=self.penalty_strength,
        )
        yield recipe.point(calibrated)

    def _allocation_training(self, config: TrialConfig) -> Training:
        """As the embedded source networks are trained, except for PAC-Net's own settings."""
        source = config.source
        return Training(
            epochs=self.allocate_epochs,
            batch_size=source.batch_size,
            learning_rate=self.allocate_learning_rate,
            head_learning_rate=self.allocate_learning_rate,
            momentum=source.momentum,
            weight_decay=0.0,  # it would change weights whose gradient is masked (C)
            schedule="cosine",
            seed=stream(source.seed, "allocate order"),
            optimiser=self.optimiser,
        )

    def _calibration_training(self, tuning: Training) -> Training:
        """As all methods fine-tune, except for PAC-Net's own settings."""
        return tuning.replace(
            learning_rate=self.calibrate_learning_rate,
            weight_decay=0.0,
            optimiser=self.optimiser,
            layer_decay=1.0,
            norm="synchronised",  # Calibrate changes no norm
        )
