//! Header extensions: blocks of any content between a header and its voxels.

/// More than this is not kept: real extensions are some kilobytes.
pub(crate) const LARGEST: u64 = 16 << 20;

/// The extensions of a block as code and content; ends at the first that does not fit.
pub(crate) fn list(block: &[u8], big_endian: bool) -> Vec<(i32, &[u8])> {
    let number = |bytes: [u8; 4]| {
        if big_endian {
            i32::from_be_bytes(bytes)
        } else {
            i32::from_le_bytes(bytes)
        }
    };
    let mut found = Vec::new();
    let mut rest = block;
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let Some((code, _)) = after.split_first_chunk::<4>() else {
            break;
        };
        // A multiple of 16, these two numbers included.
        let size = usize::try_from(number(*size)).unwrap_or(0);
        if size < 16 || size % 16 != 0 || size > rest.len() {
            break;
        }
        found.push((number(*code), &rest[8..size]));
        rest = &rest[size..];
    }
    found
}

/// Extensions as a little-endian block.
pub(crate) fn encode(extensions: &[(i32, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (code, content) in extensions {
        // Sizes were read from an i32, so they fit into one.
        block.extend((content.len() as i32 + 8).to_le_bytes());
        block.extend(code.to_le_bytes());
        block.extend_from_slice(content);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damaged_sizes_end_the_list() {
        let good = encode(&[(6, &[1; 8]), (4, &[2; 24])]);
        assert_eq!(list(&good, false), [(6, &[1; 8][..]), (4, &[2; 24])]);
        for size in [-16, 0, 8, 24, 1 << 30] {
            let mut bad = good.clone();
            bad[16..20].copy_from_slice(&i32::to_le_bytes(size));
            assert_eq!(list(&bad, false), [(6, &[1; 8][..])], "{size}");
        }
        assert!(list(&good[..7], false).is_empty());
    }

    proptest! {
        #[test]
        fn any_block_is_listed_without_reading_beyond_it(
            block in prop::collection::vec(any::<u8>(), 0..200),
            big_endian: bool,
        ) {
            let listed = list(&block, big_endian);
            let bytes: usize = listed.iter().map(|(_, content)| content.len() + 8).sum();
            prop_assert!(bytes <= block.len());
        }
    }
}
