//! Any bytes as each of the meta files of IJB-B and IJB-C.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::{TemplateIndex, TemplatePairs, detector_scores_from_text, subjects_from_csv};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = TemplateIndex::from_text(bytes) {
        assert_eq!(index.templates().len(), index.media().len());
    }
    if let Ok(pairs) = TemplatePairs::from_text(bytes) {
        assert!(pairs.a().len() == pairs.b().len() && pairs.b().len() == pairs.same().len());
    }
    let _ = detector_scores_from_text(bytes);
    let _ = subjects_from_csv(bytes);
});
