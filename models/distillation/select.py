"""How an option file wants the student to be compared with the teacher."""

from functools import partial

from models.distillation.objective import Objective
from models.distillation.spandrel_teacher import SpandrelTeacher
from models.distillation.terms import FEATURES, GROUND_TRUTH, IMAGES, TRANSLATED_FEATURES, Term
from models.distillation.translators import FeaturePairs, Translators, check_pairs, relative_pairs
from models.network_swinir import SwinIR
from utils.options.schema import Options, TrainOptions
from utils.process import dist
from utils.process.errors import UserError


def define_objective(train: TrainOptions) -> Objective:
    """The losses of an option file.

    Raises:
        UserError: as `Objective`'s ValueError.
    """
    term = partial(Term, charbonnier_eps=train.G_charbonnier_eps)
    terms = {"l_g_L1": term(GROUND_TRUTH, train.G_lossfn_type, train.G_lossfn_weight)}
    if train.distillation_type != "none":
        terms["l_g_distill"] = term(
            IMAGES,
            train.distill_lossfn_type,
            train.distill_lossfn_weight,
            train.start_distill_iter,
            train.end_distill_iter,
        )
    if train.distillation_type == "feature":
        terms["l_g_feature"] = term(
            TRANSLATED_FEATURES,
            train.feature_lossfn_type,
            train.feature_lossfn_weight,
            train.start_feature_iter,
            train.end_feature_iter,
        )
    target = IMAGES if train.frequency_target == "teacher" else GROUND_TRUTH
    terms["l_g_frequency"] = Term(target, "frequency", train.frequency_lossfn_weight)
    terms["l_g_attention"] = Term(FEATURES, "attention", train.attention_lossfn_weight)
    terms["l_g_affinity"] = Term(FEATURES, "affinity", train.affinity_lossfn_weight)
    try:
        return Objective(terms, mean_over_processes=dist.mean if train.balance_losses else None)
    except ValueError as error:
        raise UserError(f"train: {error}") from error


def define_pairs(
    options: Options, objective: Objective, student: SwinIR, teacher: SwinIR | SpandrelTeacher | None
) -> FeaturePairs:
    """The pairs of features that an option file compares; none, if its objective compares none.

    Raises:
        UserError: a pair names a feature that is not there.
    """
    if teacher is None or not objective.compares_features:
        return []
    if isinstance(teacher, SpandrelTeacher) and not teacher.taps:
        parts = ", ".join(name for name, _ in teacher.network.named_children())
        raise UserError(
            f"netTeacher.features: names no module whose output is to be compared; the teacher has {parts} and what is "
            "in them, such as layers.0.blocks.4 (docs/distillation.md)"
        )
    pairs: FeaturePairs | None = options.train.feature_pairs
    if pairs is None:
        return relative_pairs(student=len(student.feature_dims), teacher=len(teacher.feature_dims))
    try:
        check_pairs(pairs, student=student, teacher=teacher)
    except ValueError as error:
        raise UserError(f"train.feature_pairs: {error}") from error
    return pairs


def define_translators(
    options: Options,
    objective: Objective,
    pairs: FeaturePairs,
    student: SwinIR,
    teacher: SwinIR | SpandrelTeacher | None,
) -> Translators | None:
    """The translators of an option file, if its objective compares translated features."""
    if teacher is None or not objective.translates:
        return None
    return Translators(pairs, student=student, teacher=teacher, side=options.train.feature_translator)
