use super::*;
use prometheus_client::registry::Registry;
use quorate_board::storage::Card;

const MINUTE: Duration = Duration::from_secs(60);

fn counts(written_bytes: u64, flushes: u64) -> Option<DeviceCounts> {
    Some(DeviceCounts { written_bytes, flushes: Some(flushes) })
}

fn amount(bytes: u64, syncs: u64) -> Amount {
    Amount { bytes, syncs: Some(syncs) }
}

#[test]
fn a_rate_is_of_the_last_hour_or_since_the_start() {
    let mut account = Account::default();
    let mut look = |minute: u32, bytes: u64| {
        let device = counts(1_000_000 + 2 * bytes, 500 + bytes);
        let seen = Seen { at: minute * MINUTE, node: amount(bytes, bytes / 10), zeros: 0, counts: device };
        account.look(seen, true)
    };
    assert_eq!(look(0, 0).node_per_day, None, "nothing was watched yet");
    // A hundred thousand bytes in the first two minutes, and none any more.
    let figures = look(2, 100_000);
    assert_eq!(figures.window, Some(2 * MINUTE));
    assert_eq!(figures.node_per_day, Some(amount(72_000_000, 7_200_000)));
    assert_eq!(
        figures.device,
        Some(amount(200_000, 100_000)),
        "since the start, not since the device is there"
    );
    assert_eq!(figures.device_per_day, Some(amount(144_000_000, 72_000_000)));
    for minute in 3..60 {
        look(minute, 100_000);
    }
    let figures = look(60, 100_000);
    assert_eq!(figures.window, Some(WINDOW));
    assert_eq!(figures.node_per_day, Some(amount(2_400_000, 240_000)));
    let figures = look(62, 100_000);
    assert_eq!((figures.window, figures.node_per_day), (Some(WINDOW), Some(amount(0, 0))), "that is over");
    assert_eq!(figures.device, Some(amount(200_000, 100_000)));
    assert!(account.looks.len() <= 62, "{}", account.looks.len());
}

#[test]
fn looks_in_between_are_told_and_not_remembered() {
    let mut account = Account::default();
    account.look(Seen { node: amount(0, 0), ..Seen::default() }, true);
    let mut look = |second: u64| {
        let at = Duration::from_secs(second);
        account.look(Seen { at, node: amount(second, second), ..Seen::default() }, false)
    };
    let figures = (1..=600).map(&mut look).last().unwrap();
    assert_eq!(figures.node_per_day, Some(amount(86_400, 86_400)));
    assert_eq!((figures.device, figures.device_per_day), (None, None));
    assert_eq!(account.looks.len(), 1);
}

#[test]
fn what_prepares_a_new_log_is_no_days_work() {
    let mut account = Account::default();
    let mut look = |minute: u32, zeros: u64| {
        let node = amount(zeros + 100 * u64::from(minute), 0);
        account.look(Seen { at: minute * MINUTE, node, zeros, counts: None }, true).node_per_day
    };
    assert_eq!(look(0, 0), None);
    assert_eq!(look(1, 50_000_000), None);
    assert_eq!(look(2, 96_000_000), None);
    assert_eq!(look(3, 96_000_000), Some(amount(144_000, 0)), "a hundred bytes a minute");
    // Later it is written for what is written.
    for minute in 4..=40 {
        look(minute, 96_000_000);
    }
    assert!(look(41, 112_000_000).is_some_and(|day| day.bytes > 144_000));
}

#[test]
fn a_device_whose_counts_begin_anew_or_fail_keeps_its_total() {
    let mut account = Account::default();
    let mut look = |minute: u32, counts| {
        account.look(Seen { at: minute * MINUTE, counts, ..Seen::default() }, true).device
    };
    assert_eq!(look(0, counts(5_000, 50)), Some(amount(0, 0)));
    assert_eq!(look(1, counts(6_000, 60)), Some(amount(1_000, 10)));
    assert_eq!(look(2, None), Some(amount(1_000, 10)));
    assert_eq!(look(3, counts(200, 2)), Some(amount(1_200, 12)), "attached again");
    let older = Some(DeviceCounts { written_bytes: 300, flushes: None });
    assert_eq!(look(4, older), Some(Amount { bytes: 1_300, syncs: None }));
}

#[test]
fn the_page_names_what_is_known_and_nothing_else() {
    let page = |device: Option<Device>| {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Wear::new(Written::default(), device)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let card = Card { life_used_tenths: Some(3), ..Card::default() };
    let device =
        Device { name: "no-such-card".into(), bytes: 32_000_000_000, card: Some(card), ..Device::default() };
    let text = page(Some(device));
    for line in [
        "quorate_device_size_bytes{device=\"no-such-card\"} 32000000000",
        "quorate_device_endurance_bytes 3292000000000",
        "quorate_card_life_used_ratio 0.3",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("per_day") && !text.contains("device_written"), "{text}");
    assert_eq!(page(None), "# EOF\n");
}

#[test]
fn figures_are_told_under_their_names() {
    #[derive(Debug)]
    struct Page(Figures);
    impl Collector for Page {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.encode(&mut encoder)
        }
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(Figures {
        device: Some(amount(4_096, 3)),
        window: Some(2 * MINUTE),
        node_per_day: Some(amount(1_000, 10)),
        device_per_day: Some(amount(2_000, 20)),
    })));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "quorate_device_written_bytes_total 4096\n",
        "quorate_device_flushes_total 3\n",
        "quorate_per_day_window_seconds 120\n",
        "quorate_written_bytes_per_day 1000\n",
        "quorate_syncs_per_day 10\n",
        "quorate_device_written_bytes_per_day 2000\n",
        "quorate_device_flushes_per_day 20\n",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
