//! Is what is said of the clouds what the program holds, and does every example work?

use tidegate::bridge::presets;
use tidegate::cli::presets::page;
use tidegate::config;

use crate::examples::{assert_generated, plan_of};
use crate::source::root;

#[test]
fn the_page_of_clouds_is_what_the_program_knows() {
    assert_generated("docs/clouds.md", &page());
}

#[test]
fn the_example_of_every_cloud_works_without_a_warning() {
    for preset in presets::all() {
        let loaded = config::load_text(&root().join("clouds.toml"), &preset.example);
        let plan = plan_of(preset.name, loaded).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(plan.bridges.len(), 1, "{}", preset.name);
    }
}
