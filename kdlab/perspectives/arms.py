"""The runs that perspectives are made of; two perspectives that ask for the same run share it."""

from __future__ import annotations

from kdlab.identity import steps
from kdlab.perspectives.profile import Profile
from kdlab.spec import Budget, RunSpec


def teacher(profile: Profile, *, joint: bool = False) -> RunSpec:
    """The teacher: trained on weak views, or with ``joint`` on weak and jointly augmented views, CE on all rows."""
    spec = RunSpec(
        data=profile.data,
        sizes=profile.sizes,
        model=profile.teacher,
        budget=profile.teacher_budget,
        optimiser=profile.teacher_optimiser,
    )
    return augmented(spec, profile) if joint else spec


def ce(profile: Profile, **changes) -> RunSpec:
    """A student without a teacher, one weak view of each original."""
    spec = RunSpec(
        data=profile.data,
        sizes=profile.sizes,
        model=profile.student,
        budget=profile.budget,
        optimiser=profile.optimiser,
    )
    return spec.replace(**changes)


def kd(profile: Profile, method: str = "kd", *, joint_teacher: bool = False, **changes) -> RunSpec:
    """A distilled student, one weak view of each original."""
    return ce(profile, method=method, teacher=teacher(profile, joint=joint_teacher), **changes)


def weak2(spec: RunSpec) -> RunSpec:
    """Two independent weak views of each original: the control of equal cost."""
    return spec.replace(views=2, augmentation="weak", augmentation_options={}, ratio=0.0)


def augmented(spec: RunSpec, profile: Profile, policy: str = "jda", *, views: int = 2, ratio: float = 0.5) -> RunSpec:
    """A weak view and an augmented one, or any other number of views and share of augmented rows.

    Args:
        spec: the run to augment.
        profile: names the policy of joint augmentation.
        policy: ``"jda"`` or any registered augmentation.
        views: rows per original.
        ratio: share of augmented rows, in [0, 1].
    """
    options = {"policy": profile.policy} if policy == "jda" else {}
    return spec.replace(views=views, augmentation=policy, augmentation_options=options, ratio=ratio)


def equal_images(profile: Profile) -> Budget:
    """A budget in student images: those that a two-view student sees in the profile's epochs on the whole set."""
    b = profile.budget
    return Budget(steps(ce(profile)) * b.originals_per_step * 2, "student_images", b.originals_per_step)


def equal_steps(profile: Profile) -> Budget:
    """A budget in steps: those of the profile's epochs on the whole training set."""
    return Budget(steps(ce(profile)), "steps", profile.budget.originals_per_step)
