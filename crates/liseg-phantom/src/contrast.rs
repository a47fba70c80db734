//! How bright each tissue is in each phase.

use crate::Phase;
use crate::tissue::Tissue;
use crate::vendor::Protocol;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Brightness of every tissue in one scan, in units in which a typical liver has some hundreds.
#[derive(Debug, Clone)]
pub(crate) struct Palette {
    brightness: [f32; Tissue::COUNT],
    texture: [f32; Tissue::COUNT],
}

/// Typical brightness with fat suppressed: (tissue, [GED1, GED2, GED3, GED4, T1WI, T2WI, DWI]).
///
/// Schematic values in the order of brightness that readers know: on T1 the liver is brighter than
/// the spleen and water is dark; after gadoxetate the arteries light up first, then the portal
/// vein, and after 20 minutes the liver itself with dark vessels and bright bile; on T2 the liver
/// is dark, spleen, kidneys and water are bright and fast blood is black; on diffusion images the
/// spleen and the kidneys are bright and almost all else is dark.
#[rustfmt::skip]
const TYPICAL: [(Tissue, [f32; 7]); Tissue::COUNT] = [
    (Tissue::Air,           [  4.,   4.,   4.,   4.,   4.,   4.,   3.]),
    (Tissue::Skin,          [330., 380., 390., 370., 300., 210.,  60.]),
    (Tissue::Fat,            [140., 150., 150., 150., 130., 190.,  30.]),
    (Tissue::VisceralFat,    [150., 165., 165., 160., 140., 205.,  35.]),
    (Tissue::Muscle,         [340., 390., 405., 400., 330., 150., 105.]),
    (Tissue::Rib,           [150., 170., 175., 170., 150., 110.,  60.]),
    (Tissue::Marrow,        [260., 330., 340., 320., 230., 200., 130.]),
    (Tissue::Disc,          [210., 230., 240., 240., 210., 420., 130.]),
    (Tissue::Fluid,          [ 90.,  95., 100., 110.,  85., 850., 160.]),
    (Tissue::Cord,          [250., 270., 280., 270., 250., 480., 230.]),
    (Tissue::Lung,          [ 25.,  28.,  28.,  26.,  22.,  22.,  10.]),
    (Tissue::HeartMuscle,   [480., 560., 520., 440., 320., 190., 110.]),
    (Tissue::HeartBlood,    [900., 840., 640., 430., 200., 110.,  40.]),
    (Tissue::BowelWall,     [420., 560., 560., 500., 320., 290., 190.]),
    (Tissue::BowelFluid,     [240., 260., 270., 330., 230., 600., 150.]),
    (Tissue::Stool,         [430., 440., 440., 470., 440., 260., 110.]),
    (Tissue::Gas,           [ 12.,  12.,  12.,  12.,  12.,  10.,   6.]),
    (Tissue::Pancreas,      [700., 640., 560., 490., 470., 300., 190.]),
    (Tissue::KidneyCortex,  [980., 900., 800., 640., 380., 560., 420.]),
    (Tissue::KidneyMedulla, [420., 700., 790., 600., 290., 680., 460.]),
    (Tissue::KidneySinus,    [190., 220., 300., 330., 160., 300.,  90.]),
    (Tissue::StomachWall,   [420., 520., 530., 480., 320., 270., 200.]),
    (Tissue::StomachFluid,   [170., 180., 190., 210., 160., 650., 120.]),
    (Tissue::Spleen,        [720., 680., 610., 530., 290., 520., 640.]),
    (Tissue::Aorta,         [1080., 880., 660., 430., 190.,  50.,  20.]),
    (Tissue::VenaCava,      [460., 800., 650., 430., 200., 120.,  35.]),
    (Tissue::Bile,           [150., 150., 170., 620., 160., 860., 110.]),
    (Tissue::Liver,          [430., 580., 600., 575., 430., 245., 250.]),
    (Tissue::PortalVein,     [560., 880., 670., 370., 200., 170.,  40.]),
    (Tissue::HepaticVein,    [380., 840., 670., 350., 180., 140.,  35.]),
    (Tissue::Lesion,        [250., 300., 310., 270., 240., 640., 380.]),
];

/// Column of [`TYPICAL`].
fn column(phase: Phase) -> usize {
    match phase {
        Phase::Ged1 => 0,
        Phase::Ged2 => 1,
        Phase::Ged3 => 2,
        Phase::Ged4 => 3,
        Phase::T1 => 4,
        Phase::T2 => 5,
        Phase::Dwi => 6,
    }
}

/// Amplitude of the fine texture, relative to the brightness.
fn texture(tissue: Tissue, scarring: f32) -> f32 {
    match tissue {
        Tissue::Fat | Tissue::VisceralFat => 0.24,
        Tissue::BowelWall | Tissue::Stool | Tissue::BowelFluid => 0.25,
        Tissue::StomachFluid => 0.12,
        Tissue::Lung => 0.6,
        Tissue::Muscle => 0.16,
        Tissue::Marrow | Tissue::Rib => 0.14,
        Tissue::Pancreas => 0.12,
        Tissue::Liver => 0.04 + 0.07 * scarring,
        Tissue::Spleen => 0.05,
        Tissue::Lesion => 0.03,
        _ => 0.06,
    }
}

/// What one patient's tissues deviate by from the typical ones, in all phases.
#[derive(Debug, Clone)]
pub(crate) struct Constitution {
    /// Factors, one for each tissue.
    factor: [f32; Tissue::COUNT],
    /// How far the liver takes up gadoxetate: 1 for a healthy liver.
    uptake: f32,
    scarring: f32,
}

impl Constitution {
    /// Draws a patient's deviations. Scarred livers take up less contrast agent.
    pub(crate) fn sample(stage: u8, rng: &mut impl Rng) -> Self {
        let scarring = f32::from(stage.saturating_sub(1)) / 3.0;
        let mut spread = |sigma: f32| -> f32 {
            let normal: f32 = StandardNormal.sample(rng);
            (sigma * normal.clamp(-2.0, 2.0)).exp()
        };
        let factor = std::array::from_fn(|_| spread(0.08));
        Self {
            factor,
            uptake: (1.02 - 0.22 * scarring) * spread(0.1),
            scarring,
        }
    }
}

impl Palette {
    /// The brightness of every tissue for one patient, phase and protocol.
    pub(crate) fn new(
        constitution: &Constitution,
        phase: Phase,
        protocol: &Protocol,
        rng: &mut impl Rng,
    ) -> Self {
        let mut brightness = [0.0; Tissue::COUNT];
        let mut grain = [0.0; Tissue::COUNT];
        let without_suppression = match phase {
            Phase::T2 => 700.0,
            Phase::Dwi => 90.0,
            _ => 880.0,
        };
        for (tissue, values) in TYPICAL {
            let mut value = values[column(phase)];
            let fatty = match tissue {
                Tissue::Fat => 1.0,
                Tissue::VisceralFat => 0.9,
                Tissue::Marrow => 0.25,
                _ => 0.0,
            };
            value += fatty * (1.0 - protocol.fat_suppression) * (without_suppression - value);
            // The same tissue is not equally bright in two scans of one patient.
            let normal: f32 = StandardNormal.sample(rng);
            value *= constitution.factor[tissue as usize] * (0.03 * normal).exp();
            if tissue == Tissue::Liver && matches!(phase, Phase::Ged3 | Phase::Ged4) {
                value *= constitution.uptake;
            }
            brightness[tissue as usize] = value;
            grain[tissue as usize] = texture(tissue, constitution.scarring);
        }
        Self {
            brightness,
            texture: grain,
        }
    }

    /// The mean brightness of a tissue.
    #[inline]
    pub(crate) fn plain(&self, tissue: Tissue) -> f32 {
        self.brightness[tissue as usize]
    }

    /// The brightness of a tissue where the texture field has the value `grain`, −1 to 1.
    #[inline]
    pub(crate) fn textured(&self, tissue: Tissue, grain: f32) -> f32 {
        self.brightness[tissue as usize] * (1.0 + self.texture[tissue as usize] * grain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resolution, Vendor};
    use liseg_volume::Seed;

    fn ratio(phase: Phase, a: Tissue, b: Tissue) -> Vec<f32> {
        let palettes = (0..40).map(|sample| {
            let mut rng = Seed(1).stream("contrast", 0, sample);
            let constitution = Constitution::sample(1 + (sample % 4) as u8, &mut rng);
            let protocol = Protocol::new(Vendor::A, phase, Resolution::Small);
            Palette::new(&constitution, phase, &protocol, &mut rng)
        });
        palettes.map(|p| p.plain(a) / p.plain(b)).collect()
    }

    #[test]
    fn every_tissue_has_its_own_row() {
        for (index, (tissue, _)) in TYPICAL.iter().enumerate() {
            assert_eq!(*tissue as usize, index);
        }
    }

    #[test]
    fn contrasts_are_those_that_readers_know() {
        let all = |phase, a, b, low: f32, high: f32| {
            let ratios = ratio(phase, a, b);
            assert!(
                ratios.iter().all(|r| (low..high).contains(r)),
                "{phase} {a:?}/{b:?}: {ratios:?}"
            );
        };
        all(Phase::T2, Tissue::Liver, Tissue::Spleen, 0.2, 0.75);
        all(Phase::T1, Tissue::Liver, Tissue::Spleen, 1.0, 2.5);
        all(Phase::Dwi, Tissue::Liver, Tissue::Spleen, 0.1, 0.75);
        all(Phase::Ged1, Tissue::Aorta, Tissue::Liver, 1.5, 5.0);
        all(Phase::Ged4, Tissue::Liver, Tissue::PortalVein, 0.8, 2.6);
    }

    #[test]
    fn late_after_the_agent_some_livers_are_no_brighter_than_the_spleen() {
        let ratios = ratio(Phase::Ged4, Tissue::Liver, Tissue::Spleen);
        let close = ratios.iter().filter(|r| (0.85..1.1).contains(*r)).count();
        assert!(close >= 8, "{ratios:?}");
        assert!(ratios.iter().any(|r| *r > 1.15), "{ratios:?}");
    }
}
