"""How an option file wants the student to be compared with the teacher."""

from functools import partial

from models.distillation.objective import Objective, Term
from models.distillation.translators import FeaturePairs, Translators, relative_pairs
from models.network_swinir import SwinIR
from models.spandrel_teacher import SpandrelTeacher
from utils.options.schema import Options, TrainOptions
from utils.process import dist
from utils.process.errors import UserError


def define_objective(train: TrainOptions) -> Objective:
    """The losses of an option file.

    Raises:
        UserError: as `Objective`'s ValueError.
    """
    term = partial(Term, charbonnier_eps=train.G_charbonnier_eps)
    distill = term(
        train.distill_lossfn_type, train.distill_lossfn_weight, train.start_distill_iter, train.end_distill_iter
    )
    feature = term(
        train.feature_lossfn_type, train.feature_lossfn_weight, train.start_feature_iter, train.end_feature_iter
    )
    try:
        return Objective(
            term(train.G_lossfn_type, train.G_lossfn_weight),
            l_g_distill=distill if train.distillation_type in ("response", "feature") else None,
            l_g_feature=feature if train.distillation_type == "feature" else None,
            mean_over_processes=dist.mean if train.balance_losses else None,
        )
    except ValueError as error:
        raise UserError(f"train: {error}") from error


def define_translators(
    options: Options, objective: Objective, student: SwinIR, teacher: SwinIR | SpandrelTeacher | None
) -> Translators | None:
    """The translators of an option file, if its objective compares features.

    Raises:
        UserError: a pair names a feature that is not there.
    """
    if teacher is None or "l_g_feature" not in objective.terms:
        return None
    if not teacher.feature_dims:
        raise UserError("netTeacher.features: no module is named, so there is nothing to compare")
    pairs: FeaturePairs | None = options.train.feature_pairs
    if pairs is None:
        pairs = relative_pairs(student=len(student.feature_dims), teacher=len(teacher.feature_dims))
    try:
        return Translators(pairs, student=student, teacher=teacher, side=options.train.feature_translator)
    except ValueError as error:
        raise UserError(f"train.feature_pairs: {error}") from error
