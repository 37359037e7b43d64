// The libraries that the pages embed; their own types would be packages more.
declare const vegaEmbed: any;
declare const vega: any;
declare const DataTable: any;
