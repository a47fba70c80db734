#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    liseg_fuzz::safetensors(data);
});
