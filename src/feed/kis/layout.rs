//! What the fields of each message type are called and mean (field order: KIS's published column lists,
//! checked against recorded frames).

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Codes, names, flags: any text.
    Text,
    /// A whole number: shares, counts, KRW totals.
    Integer,
    /// Prices and rates.
    Decimal,
    /// `YYYYMMDD`.
    Date,
    /// `HHMMSS`, Korean time.
    Time,
}

/// A field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// KIS's own upper-case name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What a message type is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Executed trades of a venue.
    Trade {
        /// Prefix of the event ids of this feed.
        feed: &'static str,
    },
    /// A ten-level order book.
    Book,
    /// Own order notices (encrypted on the wire).
    Notice,
    /// Market status of an instrument.
    MarketStatus,
}

/// The layout of one message type. KIS adds fields at a few days' notice, so a type has a set of known
/// shapes, and a record's shape is found by its width.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The message type.
    pub tr_id: &'static str,
    /// What it is about.
    pub content: Content,
    /// Position of the instrument's code.
    pub symbol: usize,
    /// Known shapes, newest first; each one's length is its width.
    pub shapes: &'static [&'static [Field]],
}

impl Layout {
    /// The layout of a message type.
    pub fn of(tr_id: &str) -> Option<&'static Self> {
        LAYOUTS.iter().find(|l| l.tr_id == tr_id)
    }

    /// The shape with this many fields.
    pub fn shape(&self, width: usize) -> Option<&'static [Field]> {
        self.shapes.iter().copied().find(|s| s.len() == width)
    }

    /// The known widths as people read them: `46 or 47`.
    pub fn widths(&self) -> String {
        let mut widths: Vec<_> = self.shapes.iter().map(|s| s.len()).collect();
        widths.sort_unstable();
        widths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
    }
}

/// Every message type this codec knows.
pub static LAYOUTS: &[Layout] = &[
    Layout {
        tr_id: "H0STCNT0",
        content: Content::Trade { feed: "kis" },
        symbol: 0,
        shapes: &[&TRADE, TRADE_46],
    },
    Layout {
        tr_id: "H0UNCNT0",
        content: Content::Trade { feed: "kis-un" },
        symbol: 0,
        shapes: &[&VENUE_TRADE, VENUE_TRADE_46],
    },
    Layout {
        tr_id: "H0NXCNT0",
        content: Content::Trade { feed: "kis-nx" },
        symbol: 0,
        shapes: &[&VENUE_TRADE, VENUE_TRADE_46],
    },
    Layout { tr_id: "H0STASP0", content: Content::Book, symbol: 0, shapes: &[&BOOK, BOOK_62, BOOK_59] },
    Layout {
        tr_id: "H0UNASP0",
        content: Content::Book,
        symbol: 0,
        shapes: &[&UNIFIED_BOOK, UNIFIED_BOOK_66],
    },
    Layout { tr_id: "H0NXASP0", content: Content::Book, symbol: 0, shapes: &[&NXT_BOOK, NXT_BOOK_62] },
    Layout { tr_id: "H0STCNI0", content: Content::Notice, symbol: 8, shapes: &[&NOTICE, &NOTICE_23] },
    Layout { tr_id: "H0STCNI9", content: Content::Notice, symbol: 8, shapes: &[&NOTICE, &NOTICE_23] },
    Layout {
        tr_id: "H0STMKO0",
        content: Content::MarketStatus,
        symbol: 0,
        shapes: &[&MARKET_STATUS, MARKET_STATUS_10],
    },
];

/// Positions in a trade record that the codec itself reads; the first 46 fields are the same in every shape.
pub mod trade_at {
    /// `MKSC_SHRN_ISCD`
    pub const SYMBOL: usize = 0;
    /// `STCK_CNTG_HOUR`
    pub const TIME: usize = 1;
    /// `STCK_PRPR`
    pub const PRICE: usize = 2;
    /// `CNTG_VOL`
    pub const QUANTITY: usize = 12;
    /// `ACML_VOL`
    pub const ACCUMULATED_VOLUME: usize = 13;
    /// `ACML_TR_PBMN`
    pub const ACCUMULATED_VALUE: usize = 14;
    /// `BSOP_DATE`
    pub const DATE: usize = 33;
    /// Fields without which there is no trade; the others may be empty.
    pub const ESSENTIAL: [usize; 7] =
        [SYMBOL, TIME, PRICE, QUANTITY, ACCUMULATED_VOLUME, ACCUMULATED_VALUE, DATE];
}

const fn t(name: &'static str) -> Field {
    Field { name, kind: Kind::Text }
}
const fn i(name: &'static str) -> Field {
    Field { name, kind: Kind::Integer }
}
const fn d(name: &'static str) -> Field {
    Field { name, kind: Kind::Decimal }
}
const fn hms(name: &'static str) -> Field {
    Field { name, kind: Kind::Time }
}

/// H0STCNT0 since 2026-09-14; the last field was added then.
const TRADE: [Field; 47] = trade("CCLD_DVSN");
const TRADE_46: &[Field] = TRADE.split_at(46).0;
/// The other venues' trades call the side field differently.
const VENUE_TRADE: [Field; 47] = trade("CNTG_CLS_CODE");
const VENUE_TRADE_46: &[Field] = VENUE_TRADE.split_at(46).0;

const fn trade(side: &'static str) -> [Field; 47] {
    [
        t("MKSC_SHRN_ISCD"),
        hms("STCK_CNTG_HOUR"),
        d("STCK_PRPR"),
        t("PRDY_VRSS_SIGN"),
        d("PRDY_VRSS"),
        d("PRDY_CTRT"),
        d("WGHN_AVRG_STCK_PRC"),
        d("STCK_OPRC"),
        d("STCK_HGPR"),
        d("STCK_LWPR"),
        d("ASKP1"),
        d("BIDP1"),
        i("CNTG_VOL"),
        i("ACML_VOL"),
        i("ACML_TR_PBMN"),
        i("SELN_CNTG_CSNU"),
        i("SHNU_CNTG_CSNU"),
        i("NTBY_CNTG_CSNU"),
        d("CTTR"),
        i("SELN_CNTG_SMTN"),
        i("SHNU_CNTG_SMTN"),
        t(side),
        d("SHNU_RATE"),
        d("PRDY_VOL_VRSS_ACML_VOL_RATE"),
        hms("OPRC_HOUR"),
        t("OPRC_VRSS_PRPR_SIGN"),
        d("OPRC_VRSS_PRPR"),
        hms("HGPR_HOUR"),
        t("HGPR_VRSS_PRPR_SIGN"),
        d("HGPR_VRSS_PRPR"),
        hms("LWPR_HOUR"),
        t("LWPR_VRSS_PRPR_SIGN"),
        d("LWPR_VRSS_PRPR"),
        Field { name: "BSOP_DATE", kind: Kind::Date },
        t("NEW_MKOP_CLS_CODE"),
        t("TRHT_YN"),
        i("ASKP_RSQN1"),
        i("BIDP_RSQN1"),
        i("TOTAL_ASKP_RSQN"),
        i("TOTAL_BIDP_RSQN"),
        d("VOL_TNRT"),
        i("PRDY_SMNS_HOUR_ACML_VOL"),
        d("PRDY_SMNS_HOUR_ACML_VOL_RATE"),
        t("HOUR_CLS_CODE"),
        t("MRKT_TRTM_CLS_CODE"),
        d("VI_STND_PRC"),
        t("MARKET_CLS_CODE"),
    ]
}

/// The 59 fields every book starts with.
const BOOK_BASE: [Field; 59] = [
    t("MKSC_SHRN_ISCD"),
    hms("BSOP_HOUR"),
    t("HOUR_CLS_CODE"),
    d("ASKP1"),
    d("ASKP2"),
    d("ASKP3"),
    d("ASKP4"),
    d("ASKP5"),
    d("ASKP6"),
    d("ASKP7"),
    d("ASKP8"),
    d("ASKP9"),
    d("ASKP10"),
    d("BIDP1"),
    d("BIDP2"),
    d("BIDP3"),
    d("BIDP4"),
    d("BIDP5"),
    d("BIDP6"),
    d("BIDP7"),
    d("BIDP8"),
    d("BIDP9"),
    d("BIDP10"),
    i("ASKP_RSQN1"),
    i("ASKP_RSQN2"),
    i("ASKP_RSQN3"),
    i("ASKP_RSQN4"),
    i("ASKP_RSQN5"),
    i("ASKP_RSQN6"),
    i("ASKP_RSQN7"),
    i("ASKP_RSQN8"),
    i("ASKP_RSQN9"),
    i("ASKP_RSQN10"),
    i("BIDP_RSQN1"),
    i("BIDP_RSQN2"),
    i("BIDP_RSQN3"),
    i("BIDP_RSQN4"),
    i("BIDP_RSQN5"),
    i("BIDP_RSQN6"),
    i("BIDP_RSQN7"),
    i("BIDP_RSQN8"),
    i("BIDP_RSQN9"),
    i("BIDP_RSQN10"),
    i("TOTAL_ASKP_RSQN"),
    i("TOTAL_BIDP_RSQN"),
    i("OVTM_TOTAL_ASKP_RSQN"),
    i("OVTM_TOTAL_BIDP_RSQN"),
    d("ANTC_CNPR"),
    i("ANTC_CNQN"),
    i("ANTC_VOL"),
    d("ANTC_CNTG_VRSS"),
    t("ANTC_CNTG_VRSS_SIGN"),
    d("ANTC_CNTG_PRDY_CTRT"),
    i("ACML_VOL"),
    i("TOTAL_ASKP_RSQN_ICDC"),
    i("TOTAL_BIDP_RSQN_ICDC"),
    i("OVTM_TOTAL_ASKP_ICDC"),
    i("OVTM_TOTAL_BIDP_ICDC"),
    t("STCK_DEAL_CLS_CODE"),
];

/// A book: the base and what the venue adds.
const fn book<const N: usize>(extra: &[Field]) -> [Field; N] {
    let mut fields = [t(""); N];
    let mut at = 0;
    while at < N {
        fields[at] = if at < BOOK_BASE.len() { BOOK_BASE[at] } else { extra[at - BOOK_BASE.len()] };
        at += 1;
    }
    fields
}

const BOOK: [Field; 63] =
    book(&[d("MID_PRC"), i("MIDP_TOTAL_RSQN"), t("MIDP_CLS_CODE"), t("MARKET_CLS_CODE")]);
const BOOK_62: &[Field] = BOOK.split_at(62).0;
const BOOK_59: &[Field] = BOOK.split_at(59).0;

const UNIFIED_BOOK: [Field; 67] = book(&[
    d("KMID_PRC"),
    i("KMID_TOTAL_RSQN"),
    t("KMID_CLS_CODE"),
    d("NMID_PRC"),
    i("NMID_TOTAL_RSQN"),
    t("NMID_CLS_CODE"),
    t("ANTC_EXCH_CLS_CODE"),
    t("MARKET_CLS_CODE"),
]);
const UNIFIED_BOOK_66: &[Field] = UNIFIED_BOOK.split_at(66).0;

const NXT_BOOK: [Field; 63] =
    book(&[d("NMID_PRC"), i("NMID_TOTAL_RSQN"), t("NMID_CLS_CODE"), t("MARKET_CLS_CODE")]);
const NXT_BOOK_62: &[Field] = NXT_BOOK.split_at(62).0;

const NOTICE: [Field; 26] = [
    t("CUST_ID"),
    t("ACNT_NO"),
    t("ODER_NO"),
    t("OODER_NO"),
    t("SELN_BYOV_CLS"),
    t("RCTF_CLS"),
    t("ODER_KIND"),
    t("ODER_COND"),
    t("STCK_SHRN_ISCD"),
    i("CNTG_QTY"),
    d("CNTG_UNPR"),
    hms("STCK_CNTG_HOUR"),
    t("RFUS_YN"),
    t("CNTG_YN"),
    t("ACPT_YN"),
    t("BRNC_NO"),
    i("ODER_QTY"),
    t("ACNT_NAME"),
    d("ORD_COND_PRC"),
    t("ORD_EXG_GB"),
    t("POPUP_YN"),
    t("FILLER"),
    t("CRDT_CLS"),
    t("CRDT_LOAN_DATE"),
    t("CNTG_ISNM40"),
    d("ODER_PRC"),
];

/// The notice of older portal examples: one name field instead of the conditional-order fields.
const NOTICE_23: [Field; 23] = {
    let mut fields = [t(""); 23];
    let mut at = 0;
    while at < 18 {
        fields[at] = NOTICE[at];
        at += 1;
    }
    fields[18] = t("CNTG_ISNM");
    fields[19] = t("CRDT_CLS");
    fields[20] = t("CRDT_LOAN_DATE");
    fields[21] = t("CNTG_ISNM40");
    fields[22] = d("ODER_PRC");
    fields
};

const MARKET_STATUS: [Field; 11] = [
    t("MKSC_SHRN_ISCD"),
    t("TRHT_YN"),
    t("TR_SUSP_REAS_CNTT"),
    t("MKOP_CLS_CODE"),
    t("ANTC_MKOP_CLS_CODE"),
    t("MRKT_TRTM_CLS_CODE"),
    t("DIVI_APP_CLS_CODE"),
    t("ISCD_STAT_CLS_CODE"),
    t("VI_CLS_CODE"),
    t("OVTM_VI_CLS_CODE"),
    t("EXCH_CLS_CODE"),
];
const MARKET_STATUS_10: &[Field] = MARKET_STATUS.split_at(10).0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_shape_names_each_field_once_and_the_positions_read_are_right() {
        for layout in LAYOUTS {
            for shape in layout.shapes {
                let names: BTreeSet<_> = shape.iter().map(|f| f.name).collect();
                assert_eq!(names.len(), shape.len(), "{} has a name twice", layout.tr_id);
                assert!(shape[layout.symbol].name.ends_with("SHRN_ISCD"), "{}", layout.tr_id);
            }
            if matches!(layout.content, Content::Trade { .. }) {
                for shape in layout.shapes {
                    let named = trade_at::ESSENTIAL.map(|at| shape[at].name);
                    let expected = [
                        "MKSC_SHRN_ISCD",
                        "STCK_CNTG_HOUR",
                        "STCK_PRPR",
                        "CNTG_VOL",
                        "ACML_VOL",
                        "ACML_TR_PBMN",
                        "BSOP_DATE",
                    ];
                    assert_eq!(named, expected);
                }
            }
        }
        assert_eq!(Layout::of("H0STASP0").expect("known").widths(), "59 or 62 or 63");
        assert_eq!(Layout::of("H0STCNT0").expect("known").widths(), "46 or 47");
        assert!(Layout::of("H0STCNT1").is_none());
    }
}
