"""Every kind of corruption by name."""

from __future__ import annotations

from voxward.core.registry import Registry
from voxward.corruptions import contrast, field_of_view, k_space, noise, projections, sharpness, spatial
from voxward.corruptions.corruption import Corruption

_BEAM = ("grid", "angles", "water_per_mm")

CORRUPTIONS: Registry[Corruption] = Registry(
    "corruption",
    {
        "affine": Corruption(
            "another position of the patient", spatial.draw_affine, spatial.affine,
            ("translation_mm", "rotation_deg"), spatial=True,
        ),
        "elastic": Corruption(
            "another shape", spatial.draw_elastic, spatial.elastic,
            ("displacement_mm", "points"), spatial=True,
        ),
        "downsampling": Corruption(
            "fewer samples along one axis", sharpness.draw_downsampling, sharpness.downsampling, ("factor",)
        ),
        "bias-field": Corruption(
            "uneven sensitivity of the coil", contrast.draw_bias_field, contrast.bias_field, ("coefficient",)
        ),
        "gamma": Corruption("another contrast", contrast.draw_gamma, contrast.gamma, ("gamma",)),
        "ghosting": Corruption(
            "copies of the patient along the phase", k_space.draw_ghosting, k_space.ghosting, ("ghosts", "intensity")
        ),
        "motion": Corruption(
            "movements while the image is taken", k_space.draw_motion, k_space.motion,
            ("movements", "rotation_deg", "translation_mm"),
        ),
        "rician-noise": Corruption("noise of a magnitude image", noise.draw_rician, noise.rician, ("share",)),
        "smoothing": Corruption("a lower resolution", sharpness.draw_smoothing, sharpness.smoothing, ("sd_mm",)),
        "ct-noise": Corruption(
            "noise with the texture of a kernel", noise.draw_ct_noise, noise.ct_noise, ("sd_hu", "kernel_mm")
        ),
        "slice-thickness": Corruption("thicker slices", sharpness.draw_thickness, sharpness.thickness, ("factor",)),
        "hu-offset": Corruption("an offset of the scale", contrast.draw_offset, contrast.offset, ("offset_hu",)),
        "hu-scale": Corruption("an error of the scale", contrast.draw_scale, contrast.scale, ("percent",)),
        "kernel-blur": Corruption("a smoother kernel", sharpness.draw_kernel, sharpness.kernel, ("sd_mm",)),
        "sharpening": Corruption(
            "a sharper kernel", sharpness.draw_sharpening, sharpness.sharpening, ("amount", "sd_mm")
        ),
        "low-dose": Corruption(
            "streaks of too few photons", projections.draw_low_dose, projections.low_dose, ("photons", *_BEAM)
        ),
        "metal": Corruption(
            "a metal rod with its streaks", projections.draw_metal, projections.metal,
            ("diameter_mm", "hu", "length_mm", "hardening", "photons", *_BEAM),
        ),
        "contrast-phase": Corruption(
            "another phase of the contrast medium", contrast.draw_phase, contrast.phase,
            ("gamma_low", "gamma_high", "low_hu", "high_hu"),
        ),
        "truncation": Corruption(
            "a narrower field of view", field_of_view.draw_truncation, field_of_view.truncation, ("percent",)
        ),
    },
)  # fmt: skip
"""What a set of corruptions can name."""
