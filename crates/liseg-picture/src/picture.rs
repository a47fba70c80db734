//! Red, green and blue pixels, and how sheets are put together from them.

use crate::{Error, Result, font};
use std::path::Path;

/// Longest side of a picture, in pixels.
pub const MAX_SIDE: usize = 16_384;

/// A colour picture: rows from top to bottom, pixels from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels along a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue, 3 bytes for each of the `width × height` pixels.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            rgb: colour.repeat(width * height),
        }
    }

    /// The colour at column `x` of row `y`; `None` outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        let start = self.start(x, y)?;
        let pixel = self.rgb.get(start..start + 3)?;
        Some([pixel[0], pixel[1], pixel[2]])
    }

    /// Sets the colour at column `x` of row `y`; outside the picture nothing happens.
    pub fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if let Some(start) = self.start(x, y)
            && let Some(pixel) = self.rgb.get_mut(start..start + 3)
        {
            pixel.copy_from_slice(&colour);
        }
    }

    fn start(&self, x: usize, y: usize) -> Option<usize> {
        (x < self.width && y < self.height).then(|| 3 * (y * self.width + x))
    }

    /// Copies `other` onto this picture with its top left corner at (x, y); what leaves the
    /// picture is cut off.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        for row in 0..other.height {
            for column in 0..other.width {
                if let Some(colour) = other.pixel(column, row) {
                    self.set(x + column, y + row, colour);
                }
            }
        }
    }

    /// Pictures side by side, aligned at the top, with a black gap of `gap` pixels between them.
    pub fn beside(pictures: &[Self], gap: usize) -> Self {
        let gaps = gap * pictures.len().saturating_sub(1);
        let width = pictures.iter().map(|p| p.width).sum::<usize>() + gaps;
        let height = pictures.iter().map(|p| p.height).max().unwrap_or(0);
        let mut sheet = Self::filled(width, height, [0; 3]);
        let mut x = 0;
        for picture in pictures {
            sheet.paste(picture, x, 0);
            x += picture.width + gap;
        }
        sheet
    }

    /// Pictures below each other, aligned at the left, with a black gap of `gap` pixels between
    /// them.
    pub fn below(pictures: &[Self], gap: usize) -> Self {
        let gaps = gap * pictures.len().saturating_sub(1);
        let width = pictures.iter().map(|p| p.width).max().unwrap_or(0);
        let height = pictures.iter().map(|p| p.height).sum::<usize>() + gaps;
        let mut sheet = Self::filled(width, height, [0; 3]);
        let mut y = 0;
        for picture in pictures {
            sheet.paste(picture, 0, y);
            y += picture.height + gap;
        }
        sheet
    }

    /// Writes text with its top left corner at (x, y); every dot of the 5×7 letters is a square
    /// of `scale` pixels. Lower case is shown as upper case, unknown signs as `?`.
    pub fn text(&mut self, x: usize, y: usize, text: &str, colour: [u8; 3], scale: usize) {
        for (dx, dy) in font::dots(text) {
            for i in 0..scale {
                for j in 0..scale {
                    self.set(x + dx * scale + i, y + dy * scale + j, colour);
                }
            }
        }
    }

    /// The picture with a line of white text above it; widened where the text needs it.
    pub fn captioned(&self, caption: &str, scale: usize) -> Self {
        let scale = scale.max(1);
        let margin = 2 * scale;
        let band = font::HEIGHT * scale + 2 * margin;
        let width = self.width.max(font::width(caption) * scale + 2 * margin);
        let mut sheet = Self::filled(width, band + self.height, [0; 3]);
        sheet.text(margin, margin, caption, [255; 3], scale);
        sheet.paste(self, 0, band);
        sheet
    }

    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::Size`] for a picture without pixels or with a side above [`MAX_SIDE`],
    /// [`Error::Encode`] when the encoder refuses it, as when `rgb` has not
    /// `3 × width × height` bytes.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        if [self.width, self.height]
            .iter()
            .any(|side| !(1..=MAX_SIDE).contains(side))
        {
            return Err(Error::Size {
                width: self.width,
                height: self.height,
                limit: MAX_SIDE,
            });
        }
        let mut bytes = Vec::new();
        // Both sides are at most MAX_SIDE here.
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let encoded = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.rgb));
        encoded.map_err(|source| Error::Encode(Box::new(source)))?;
        Ok(bytes)
    }

    /// Writes a PNG file, whole or not at all.
    ///
    /// # Errors
    /// As [`Picture::to_png`]; [`Error::Io`] when the file cannot be written.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        liseg_file::write(path, self.to_png()?).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_have_the_size_of_their_parts() {
        let (a, b) = (
            Picture::filled(3, 4, [1, 2, 3]),
            Picture::filled(5, 2, [9; 3]),
        );
        let row = Picture::beside(&[a.clone(), b.clone()], 2);
        assert_eq!((row.width, row.height), (10, 4));
        assert_eq!(row.pixel(0, 3), Some([1, 2, 3]));
        assert_eq!(row.pixel(3, 0), Some([0; 3]));
        assert_eq!(row.pixel(5, 1), Some([9; 3]));
        assert_eq!(row.pixel(5, 2), Some([0; 3]));
        let column = Picture::below(&[a, b], 1);
        assert_eq!((column.width, column.height), (5, 7));
        assert_eq!(column.pixel(4, 6), Some([9; 3]));
        assert_eq!(column.pixel(5, 6), None);
    }

    #[test]
    fn a_written_png_reads_back_pixel_for_pixel() {
        let mut picture = Picture::filled(31, 17, [10, 20, 30]);
        picture.set(4, 5, [255, 0, 128]);
        picture.text(0, 0, "Liver 5", [255; 3], 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        picture.write_png(&path).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((frame.width, frame.height), (31, 17));
        assert_eq!(rgb, picture.rgb);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_picture_without_pixels_or_with_missing_bytes_is_refused() {
        let empty = Picture::beside(&[], 3);
        assert!(matches!(empty.to_png(), Err(Error::Size { .. })));
        let mut short = Picture::filled(3, 3, [0; 3]);
        short.rgb.pop();
        assert!(matches!(short.to_png(), Err(Error::Encode(_))));
        let full = Picture::filled(3, 3, [0; 3]);
        let lost = full.write_png("no/such/folder/a.png");
        assert!(lost.unwrap_err().to_string().contains("no/such/folder"));
    }

    #[test]
    fn a_caption_stands_above_and_is_never_cut() {
        let picture = Picture::filled(10, 10, [7; 3]);
        let captioned = picture.captioned("a long caption", 2);
        assert!(captioned.width >= 14 * 6 * 2);
        assert_eq!(captioned.height, 10 + 7 * 2 + 8);
        assert_eq!(captioned.pixel(0, captioned.height - 1), Some([7; 3]));
        assert!(captioned.rgb.contains(&255));
    }
}
