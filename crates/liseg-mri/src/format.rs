//! Formats of medical images that are not read here: recognised, so that nothing is passed over in
//! silence, and named with the way to convert them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A format of medical images other than NIfTI.
///
/// ```
/// use liseg_mri::OtherFormat;
/// let found = OtherFormat::of_name("scan.nrrd".as_ref());
/// assert_eq!(found, Some(OtherFormat::Nrrd));
/// assert_eq!(OtherFormat::of_name("scan.nii.gz".as_ref()), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherFormat {
    /// DICOM: one file for each slice, or for a whole series.
    Dicom,
    /// MetaImage, `.mha` or `.mhd`.
    MetaImage,
    /// NRRD, `.nrrd` or `.nhdr`.
    Nrrd,
    /// FreeSurfer's `.mgz` or `.mgh`.
    Mgh,
}

impl OtherFormat {
    /// The format that a file's name says.
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "dcm" | "dicom" | "ima" => Some(Self::Dicom),
            "mha" | "mhd" => Some(Self::MetaImage),
            "nrrd" | "nhdr" => Some(Self::Nrrd),
            "mgz" | "mgh" => Some(Self::Mgh),
            _ => None,
        }
    }

    /// The format that a file's first bytes say; 132 are enough.
    pub fn of_bytes(start: &[u8]) -> Option<Self> {
        if start.get(128..132) == Some(b"DICM") {
            return Some(Self::Dicom);
        }
        if start.starts_with(b"NRRD000") {
            return Some(Self::Nrrd);
        }
        let meta = start.starts_with(b"ObjectType") || start.starts_with(b"NDims");
        meta.then_some(Self::MetaImage)
    }

    /// The format of a file, by its name or else by its first bytes; `None` for NIfTI, for files
    /// that cannot be opened and for all others.
    pub fn of_file(path: &Path) -> Option<Self> {
        if !path.is_file() {
            return None;
        }
        Self::of_name(path).or_else(|| {
            let mut start = Vec::new();
            let mut file = File::open(path).ok()?.take(132);
            file.read_to_end(&mut start).ok()?;
            Self::of_bytes(&start)
        })
    }

    /// The format of the first file of a folder that has one of these formats; no deeper folders.
    pub fn of_folder(path: &Path) -> Option<Self> {
        let entries = std::fs::read_dir(path).ok()?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.iter().find_map(|path| Self::of_file(path))
    }

    /// How a file of this format becomes a NIfTI file.
    pub fn conversion(self) -> &'static str {
        match self {
            Self::Dicom => "convert the series with `dcm2niix -z y -o OUT FOLDER`",
            Self::Mgh => "convert it with `mri_convert IN.mgz OUT.nii.gz`",
            Self::MetaImage | Self::Nrrd => {
                "convert it with SimpleITK: `sitk.WriteImage(sitk.ReadImage(\"IN\"), \"OUT.nii.gz\")`"
            }
        }
    }
}

impl std::fmt::Display for OtherFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dicom => "DICOM",
            Self::MetaImage => "MetaImage",
            Self::Nrrd => "NRRD",
            Self::Mgh => "FreeSurfer's MGH",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_name_and_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let dicom = [&[0; 128][..], b"DICM", &[2, 0]].concat();
        let files: [(&str, &[u8], _); 7] = [
            ("IM0001", &dicom, Some(OtherFormat::Dicom)),
            ("a.IMA", b"", Some(OtherFormat::Dicom)),
            ("b", b"ObjectType = Image", Some(OtherFormat::MetaImage)),
            ("c.nhdr", b"", Some(OtherFormat::Nrrd)),
            ("d", b"NRRD0004\n", Some(OtherFormat::Nrrd)),
            ("e.mgz", b"", Some(OtherFormat::Mgh)),
            ("f.txt", b"DICM", None),
        ];
        for (name, content, expected) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            assert_eq!(OtherFormat::of_file(&path), expected, "{name}");
        }
        assert_eq!(
            OtherFormat::of_folder(folder.path()),
            Some(OtherFormat::Dicom)
        );
        assert_eq!(OtherFormat::of_file(folder.path()), None);
    }
}
