//! What the phantom's body is made of.

use serde::{Deserialize, Serialize};

/// An organ of the phantom, as written in the organ label map.
///
/// The liver of the binary mask consists of [`Organ::Liver`], [`Organ::LiverLesion`] and the part
/// of [`Organ::LiverVessels`] that runs inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Organ {
    /// Air around the patient.
    Background = 0,
    /// Liver without vessels and lesions.
    Liver = 1,
    /// Spleen.
    Spleen = 2,
    /// Right kidney.
    RightKidney = 3,
    /// Left kidney.
    LeftKidney = 4,
    /// Stomach with its content.
    Stomach = 5,
    /// Gallbladder; some patients have none.
    Gallbladder = 6,
    /// Portal and hepatic veins, with the portal trunk outside the liver.
    LiverVessels = 7,
    /// Aorta.
    Aorta = 8,
    /// Inferior vena cava.
    VenaCava = 9,
    /// Vertebrae, discs and spinal canal.
    Spine = 10,
    /// Both lungs.
    Lungs = 11,
    /// Muscles of the back and of the abdominal and thoracic wall.
    Muscle = 12,
    /// Fat below the skin (with the skin) and around the organs.
    Fat = 13,
    /// Heart.
    Heart = 14,
    /// Small and large bowel with their content.
    Bowel = 15,
    /// Pancreas.
    Pancreas = 16,
    /// Cysts and other round lesions of the liver; most patients have none.
    LiverLesion = 17,
    /// Ribs.
    Ribs = 18,
}

impl Organ {
    /// All organs, in the order of their labels.
    pub const ALL: [Self; 19] = [
        Self::Background,
        Self::Liver,
        Self::Spleen,
        Self::RightKidney,
        Self::LeftKidney,
        Self::Stomach,
        Self::Gallbladder,
        Self::LiverVessels,
        Self::Aorta,
        Self::VenaCava,
        Self::Spine,
        Self::Lungs,
        Self::Muscle,
        Self::Fat,
        Self::Heart,
        Self::Bowel,
        Self::Pancreas,
        Self::LiverLesion,
        Self::Ribs,
    ];

    /// The value in the organ label map.
    pub fn label(self) -> u8 {
        self as u8
    }
}

/// A substance with one brightness in each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Tissue {
    Air,
    Skin,
    Fat,
    VisceralFat,
    Muscle,
    Rib,
    Marrow,
    Disc,
    Fluid,
    Cord,
    Lung,
    HeartMuscle,
    HeartBlood,
    BowelWall,
    BowelFluid,
    Stool,
    Gas,
    Pancreas,
    KidneyCortex,
    KidneyMedulla,
    KidneySinus,
    StomachWall,
    StomachFluid,
    Spleen,
    Aorta,
    VenaCava,
    Bile,
    Liver,
    PortalVein,
    HepaticVein,
    Lesion,
}

impl Tissue {
    pub(crate) const COUNT: usize = Self::Lesion as usize + 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_count_up_from_the_background() {
        for (index, organ) in Organ::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(organ.label()), index);
        }
    }
}
